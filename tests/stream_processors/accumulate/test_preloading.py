"""A start loads kernels before it needs them, so that events wait no longer than they must."""

import os
import subprocess
import sys

from tools.settings import CHECKOUT

WARM_UP = "from tools.warm_up import warm_up; warm_up()"
PRELOAD = """
from stream_processors.accumulate.preloading import KERNELS, preload
from tools.warm_up import warm_up

preload()
loaded = {kernel.__name__: len(kernel.overloads) for kernel in KERNELS}
assert all(loaded.values()), loaded
compiled = [kernel.__name__ for kernel in KERNELS if kernel.stats.cache_misses]
assert not compiled, compiled
warm_up()
after = {kernel.__name__: len(kernel.overloads) for kernel in KERNELS}
assert after == loaded, (loaded, after)
"""


def test_what_is_preloaded_is_not_loaded_again_by_a_world_with_everything() -> None:
    for script in (WARM_UP, PRELOAD):
        result = subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )
        assert result.returncode == 0, result.stderr
