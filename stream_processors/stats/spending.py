"""How much of the error probability has been spent at an information fraction (Lan-DeMets)."""

import math
from typing import Literal, NamedTuple

from scipy import special

SpendingName = Literal["obrien_fleming", "obrien_fleming_total", "pocock", "power"]


class Spending(NamedTuple):
    """A spending function.

    Attributes:
        name: ``obrien_fleming`` spends 2 - 2Φ(z_{1-a/2} / √t) on *each side* of a two-sided test,
            with a = alpha / 2: its boundaries at five equal looks and alpha = 0.05 are 4.877,
            3.357, 2.680, 2.290, 2.031, as in gsDesign, RTSA and Jennison and Turnbull.
            ``obrien_fleming_total`` puts a = alpha into the same formula, for both sides at once:
            4.383, 3.100, 2.553, 2.254, 2.064. Both keep alpha; they are two conventions.
            ``pocock`` spends alpha ln(1 + (e - 1) t), ``power`` spends alpha t^exponent.
        exponent: Of ``power``, > 0; 1 spends evenly, more spends later.

    References:
        Lan, DeMets (1983), "Discrete sequential boundaries for clinical trials", Biometrika 70(3);
        Kim, DeMets (1987), Biometrika 74(1), for ``power``.
    """

    name: SpendingName = "obrien_fleming"
    exponent: float = 1.0


def alpha_spent(
    spending: Spending, information: float, *, alpha: float, sides: Literal[1, 2] = 2
) -> float:
    """Return the error probability spent up to an information fraction, of all sides together.

    Args:
        spending: The function.
        information: Fraction of the planned information, > 0; from 1 on all is spent.
        alpha: To spend in all, in (0, 1).
        sides: Of the test.

    Example:
        >>> alpha_spent(Spending("pocock"), 0.5, alpha=0.05)
        0.031005725347913035
    """
    if not information > 0:
        raise ValueError(f"information == {information}, must be above 0")
    if information >= 1:
        return alpha
    if spending.name == "obrien_fleming":
        return sides * _obrien_fleming(information, alpha / sides)
    if spending.name == "obrien_fleming_total":
        return _obrien_fleming(information, alpha)
    if spending.name == "pocock":
        return alpha * math.log1p(math.expm1(1.0) * information)
    if not spending.exponent > 0:
        raise ValueError(f"exponent == {spending.exponent}, must be above 0")
    return float(alpha * information**spending.exponent)


def _obrien_fleming(information: float, alpha: float) -> float:
    z = float(special.ndtri(alpha / 2))
    return 2 * float(special.ndtr(z / math.sqrt(information)))
