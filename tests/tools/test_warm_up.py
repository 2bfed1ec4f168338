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
from stream_processors.accumulate.kernels import changing, contributing, counting, loading
called = [counting.apply_rows, contributing.mature, contributing.fold, loading.load_cells,
          loading.load_recent, changing.drop_cells, changing.replace_recent, changing.widen_cells]
missing = [one.py_func.__name__ for one in called if not one.signatures]
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
