"""Roots, and what it costs to be able to look for them."""

import math
import subprocess
import sys

import pytest

from stream_processors.stats.roots import root_between
from tools.settings import CHECKOUT

IMPORTING = """
import sys
import stream_processors.merge.__main__
print(sorted({"scipy.optimize", "scipy.stats", "scipy.integrate"} & set(sys.modules)))
"""


def test_a_root_is_found_to_the_precision_asked_for() -> None:
    assert root_between(math.cos, 1.0, 2.0) == pytest.approx(math.pi / 2, abs=1e-12)
    assert root_between(lambda x: x**3 - 2, 0, 2, xtol=1e-15) == pytest.approx(2 ** (1 / 3))


def test_without_a_change_of_sign_there_is_no_root_to_be_found() -> None:
    with pytest.raises(ValueError, match="different signs"):
        root_between(math.cos, 0.0, 1.0)


def test_a_merge_worker_starts_without_the_slow_parts_of_scipy() -> None:
    # They take 0.5 s of CPU, in each recovery of a process that was killed.
    answer = subprocess.run(
        [sys.executable, "-P", "-c", IMPORTING],
        cwd=CHECKOUT,
        env={"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert answer.stdout.strip() == "[]"
