"""How many drawn worlds a test goes through: a third in ``make test``, all in ``make test-all``.

The worlds of a test are alike but for their seed; a fault of the product shows in many of them.
"""

import pytest
from _pytest.mark.structures import ParameterSet
from hypothesis import settings

_SHARE = 3


class Draw:
    """Whether this run takes few worlds of each test; ``conftest`` says so."""

    are_few = False


def drawn(count: int) -> int:
    """Return how many of ``count`` worlds this run draws: all, or the first third."""
    return -(-count // _SHARE) if Draw.are_few else count


def seeds(count: int) -> list[ParameterSet]:
    """Return the seeds of a test; all but the first third are marked ``long``."""
    few = -(-count // _SHARE)
    return [
        pytest.param(seed, marks=pytest.mark.long if seed >= few else ()) for seed in range(count)
    ]


def examples(count: int) -> settings:
    """Let hypothesis draw so many examples for a test, or a third of them."""
    return settings(max_examples=drawn(count))
