"""Tails and critical values of the normal, Student's t and chi-square, accurate far out.

Tails are never 1 - cdf: that is 0 from z of about 8.3 on, where the truth is not. Every function
takes numbers or arrays of one shape, and gives back the same: a float for floats.
"""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]
Numbers = TypeVar("Numbers", float, Floats)
"""A number, or an array of them: what comes out is what went in."""

FAR_OUT = 30.0
"""From here on erfc as scipy has it underflows too soon; the logarithm of the tail does not."""


def plain(result: Any) -> Any:
    """Return an array as it is, and a number as a float: numpy's own scalars are not encoded."""
    return result if isinstance(result, np.ndarray) and result.ndim else float(result)


def two_sided_normal_p_value(z: Numbers) -> Numbers:
    """Return P(|Z| >= |z|) of a standard normal."""
    size = np.abs(z)
    near = special.erfc(np.minimum(size, FAR_OUT) / np.sqrt(2.0))
    far = np.exp(special.log_ndtr(-np.maximum(size, FAR_OUT)) + np.log(2.0))
    return plain(np.where(size <= FAR_OUT, near, far))


def two_sided_t_p_value(t: Numbers, degrees_of_freedom: Numbers) -> Numbers:
    """Return P(|T| >= |t|) of Student's t, by the regularised incomplete beta function."""
    return plain(np.minimum(1.0, 2.0 * special.stdtr(degrees_of_freedom, -np.abs(t))))


def chi_square_p_value(chi_square: Numbers, degrees_of_freedom: int) -> Numbers:
    """Return P(X >= chi_square), by the regularised upper incomplete gamma function."""
    return plain(special.gammaincc(degrees_of_freedom / 2, chi_square / 2))


def normal_critical_value(alpha: Numbers) -> Numbers:
    """Return z with P(|Z| >= z) == alpha."""
    return plain(-special.ndtri(np.asarray(alpha) / 2))


def t_critical_value(alpha: Numbers, degrees_of_freedom: Numbers) -> Numbers:
    """Return t with P(|T| >= t) == alpha; infinite degrees of freedom: the normal's."""
    return plain(-special.stdtrit(degrees_of_freedom, np.asarray(alpha) / 2))
