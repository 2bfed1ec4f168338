"""Warming up goes through every kernel, so that none is compiled while events wait."""

import os
import subprocess
import sys
from pathlib import Path

from tools.settings import CHECKOUT

_COMPILED_NOW = """
import sys
from tools.warm_up import warm_up
warm_up()
from stream_processors.accumulate import kernels
called = ("apply_rows", "mature", "fold", "load_cells", "load_recent", "drop_cells",
          "replace_recent", "widen_cells")
missing = [name for name in called if not getattr(kernels, name).signatures]
sys.exit(f"not compiled: {missing}" if missing else 0)
"""


def test_the_engines_kernels_are_all_compiled() -> None:
    environment = dict(os.environ) | {"PYTHONPATH": str(CHECKOUT)}
    result = subprocess.run(
        [sys.executable, "-c", _COMPILED_NOW],
        env=environment,
        cwd=Path(CHECKOUT),
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )

    assert result.returncode == 0, result.stderr
