"""Warming up goes through every kernel, so that none is compiled while events wait.

Whoever forgets one here is found by what runs afterwards: worlds with everything that there is,
through doors and engine. A kernel that meets arguments of new types then was not warmed up.
"""

import os
import subprocess
import sys

from tools.settings import CHECKOUT


def test_no_kernel_meets_anything_new_after_the_warm_up() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tests.tools.after_warm_up"],
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert "nothing new" in result.stdout
