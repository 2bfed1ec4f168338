"""A worker that has failed ends, also when Faust does not manage to stop."""

import subprocess
import sys
import time

from stream_processors.worker import CRASH_GRACE_S
from tools.settings import CHECKOUT

FAILING = """
import time
import faust
from stream_processors.worker import DrainingWorker
from schemas.log_lines import log_to_stdout

log_to_stdout()
worker = DrainingWorker(faust.App("x", broker="kafka://127.0.0.1:1"))
worker._crash(RuntimeError("the log has a gap"))
time.sleep(600)  # Faust waits for a thread that does not end
"""


def test_a_worker_that_failed_ends_within_seconds_and_says_why() -> None:
    began_s = time.monotonic()
    answer = subprocess.run(
        [sys.executable, "-P", "-c", FAILING],
        cwd=CHECKOUT,
        env={"PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert answer.returncode == 1
    assert answer.stdout.splitlines()[-1].endswith("ends after RuntimeError('the log has a gap')")
    assert time.monotonic() - began_s >= CRASH_GRACE_S
