"""How many drawn worlds a test goes through: a third in ``make test``, all in ``make test-all``.

The worlds of a test are alike but for their seed; a fault of the product shows in many of them.
"""

import pytest
from _pytest.mark.structures import ParameterSet


def seeds(count: int) -> list[ParameterSet]:
    """Return the seeds of a test; all but the first third are marked ``long``."""
    few = -(-count // 3)
    return [
        pytest.param(seed, marks=pytest.mark.long if seed >= few else ()) for seed in range(count)
    ]
