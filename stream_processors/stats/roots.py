"""Where a function crosses zero."""

from collections.abc import Callable


def root_between(
    function: Callable[[float], float],
    low: float,
    high: float,
    *,
    xtol: float = 2e-12,
    rtol: float = 2.0**-50,
) -> float:
    """Return a root of a continuous function by Brent's method (1973).

    Args:
        function: Of opposite signs at both ends.
        low: One end.
        high: The other.
        xtol: Largest absolute error of the root.
        rtol: Largest relative error of the root.

    Raises:
        ValueError: If the signs at both ends are the same.
    """
    # It takes 0.2 s of CPU to import: a worker that was killed is back sooner without it.
    from scipy import optimize  # noqa: PLC0415

    return float(optimize.brentq(function, low, high, xtol=xtol, rtol=rtol))
