"""Many comparisons, one promise: p-values and e-values adjusted within a family.

What each promises, of the claims of one family:

- Holm: the chance of *any* false claim is at most alpha, whatever the dependence. With p-values
  that are valid at every look (running always-valid ones, repeated ones) that holds over all looks
  together: a false claim at any look needs some true null's smallest p at or below alpha / m0.
- Benjamini-Hochberg: the expected share of false claims among the claims is at most alpha, at one
  planned look, for comparisons that are independent or positively dependent.
- Benjamini-Yekutieli: the same for any dependence, at a price of about ln m.
- e-BH: the same for any dependence, at any one look, however it was chosen, from the e-values *of
  that look*. Not from their running maxima, which are no e-values. BH on always-valid p-values has
  no such guarantee, so it is not offered.

References:
    Holm (1979), Scandinavian Journal of Statistics 6; Benjamini, Hochberg (1995), JRSS B 57;
    Benjamini, Yekutieli (2001), Annals of Statistics 29; Wang, Ramdas (2022), "False discovery
    rate control with e-values", JRSS B 84.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

Procedure = Literal[
    "bonferroni", "holm", "holm_sidak", "hochberg", "benjamini_hochberg", "benjamini_yekutieli"
]


class AdjustedP(NamedTuple):
    """The p-values of a family, adjusted.

    Attributes:
        p_values: In the order given; None where there was none.
        rejects: Adjusted p-value at most alpha; False where there was none.
        family_size: Comparisons that had a p-value.
        dropped_count: Those that had none: they are no part of the family.
    """

    p_values: tuple[float | None, ...]
    rejects: tuple[bool, ...]
    family_size: int
    dropped_count: int


class AdjustedE(NamedTuple):
    """The e-values of a family, adjusted; the claims are those of at least 1 / alpha.

    Attributes:
        log_e_values: Logarithms, in the order given; None where there was none.
        rejects: Whether e-BH claims it.
        family_size: Comparisons that had an e-value.
        dropped_count: Those that had none.
    """

    log_e_values: tuple[float | None, ...]
    rejects: tuple[bool, ...]
    family_size: int
    dropped_count: int


def adjust_p_values(
    p_values: Sequence[float | None], *, procedure: Procedure, alpha: float
) -> AdjustedP:
    """Return adjusted p-values and claims, in the order given; equal ones stay equal.

    Args:
        p_values: In [0, 1]; None where a comparison has none.
        procedure: By which to adjust. ``hochberg`` and ``holm_sidak`` need independent or
            positively dependent comparisons; they are here to compare with other programs.
        alpha: Level of the family, in (0, 1).

    Raises:
        ValueError: If a p-value is not in [0, 1].

    Example:
        >>> adjust_p_values([0.01, 0.04, 0.03, 0.005], procedure="holm", alpha=0.05).p_values
        (0.03, 0.06, 0.06, 0.02)
    """
    defined = [(p, index) for index, p in enumerate(p_values) if p is not None]
    for p, index in defined:
        if not 0 <= p <= 1:
            raise ValueError(f"p_values[{index}] == {p}, must be between 0 and 1")
    defined.sort()
    adjusted: list[float | None] = [None] * len(p_values)
    steps = _STEPS[procedure]([p for p, _ in defined])
    for (_, index), step in zip(defined, steps, strict=True):
        adjusted[index] = min(1.0, step)
    return AdjustedP(
        tuple(adjusted),
        tuple(p is not None and p <= alpha for p in adjusted),
        len(defined),
        len(p_values) - len(defined),
    )


def adjust_e_values(log_e_values: Sequence[float | None], *, alpha: float) -> AdjustedE:
    """Return e-BH: the k largest are claimed, k the largest with e_(k) >= m / (k alpha).

    Args:
        log_e_values: Logarithms of the e-values of *one* look; None where there is none.
        alpha: Bound of the false discovery rate, in (0, 1).

    Raises:
        ValueError: If an e-value is not a number.
    """
    defined = [(log_e, index) for index, log_e in enumerate(log_e_values) if log_e is not None]
    for log_e, index in defined:
        if math.isnan(log_e):
            raise ValueError(f"log_e_values[{index}] is not a number")
    defined.sort(reverse=True)
    size = len(defined)
    adjusted: list[float | None] = [None] * len(log_e_values)
    best = -math.inf
    for rank in range(size, 0, -1):
        log_e, index = defined[rank - 1]
        best = max(best, log_e + math.log(rank / size))
        adjusted[index] = best
    return AdjustedE(
        tuple(adjusted),
        tuple(log_e is not None and log_e >= -math.log(alpha) for log_e in adjusted),
        size,
        len(log_e_values) - size,
    )


def _running_max(values: Sequence[float]) -> list[float]:
    steps: list[float] = []
    for value in values:
        steps.append(max(value, steps[-1]) if steps else value)
    return steps


def _running_min_from_last(values: Sequence[float]) -> list[float]:
    steps: list[float] = []
    for value in reversed(values):
        steps.append(min(value, steps[-1]) if steps else value)
    return steps[::-1]


def _bonferroni(sorted_p: Sequence[float]) -> list[float]:
    return [len(sorted_p) * p for p in sorted_p]


def _holm(sorted_p: Sequence[float]) -> list[float]:
    size = len(sorted_p)
    return _running_max([(size - index) * p for index, p in enumerate(sorted_p)])


def _holm_sidak(sorted_p: Sequence[float]) -> list[float]:
    size = len(sorted_p)
    return _running_max(
        [
            1.0 if p >= 1 else -math.expm1((size - index) * math.log1p(-p))
            for index, p in enumerate(sorted_p)
        ]
    )


def _hochberg(sorted_p: Sequence[float]) -> list[float]:
    size = len(sorted_p)
    return _running_min_from_last([(size - index) * p for index, p in enumerate(sorted_p)])


def _benjamini_hochberg(sorted_p: Sequence[float]) -> list[float]:
    size = len(sorted_p)
    return _running_min_from_last([size * p / (index + 1) for index, p in enumerate(sorted_p)])


def _benjamini_yekutieli(sorted_p: Sequence[float]) -> list[float]:
    harmonic = math.fsum(1 / rank for rank in range(1, len(sorted_p) + 1))
    return [harmonic * p for p in _benjamini_hochberg(sorted_p)]


_STEPS: dict[str, Callable[[Sequence[float]], list[float]]] = {
    "bonferroni": _bonferroni,
    "holm": _holm,
    "holm_sidak": _holm_sidak,
    "hochberg": _hochberg,
    "benjamini_hochberg": _benjamini_hochberg,
    "benjamini_yekutieli": _benjamini_yekutieli,
}
