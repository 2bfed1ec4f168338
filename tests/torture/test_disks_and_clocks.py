"""Disks that can be full, or it is said why not; and clocks that can be set wrong."""

import json
import subprocess
import sys
import time
from pathlib import Path

from tools.settings import CHECKOUT, Settings
from tools.torture.clocks import Clocks
from tools.torture.schedule import DISKS
from tools.torture.stepped.sitecustomize import READ_EVERY_S

FILLING = """
import json, sys
from pathlib import Path
from tools.torture.disks import mount_disks

home, names = Path(sys.argv[1]), sys.argv[2:]
disks, reason = mount_disks(home, names)
seen = {}
for name, disk in disks.items():
    (home / name / "before").write_bytes(b"x" * 100_000)
    disk.fill()
    try:
        (home / name / "full").write_bytes(b"x" * 1_000_000)
        seen[name] = "not full"
    except OSError as error:
        seen[name] = error.strerror
    disk.free()
    (home / name / "full").write_bytes(b"x" * 1_000_000)
    assert (home / name / "before").stat().st_size == 100_000
print(json.dumps([seen, reason]))
"""


def test_a_disk_is_full_and_has_room_again_and_nobody_else_sees_it(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-P", "-c", FILLING, str(tmp_path), *DISKS],
        cwd=CHECKOUT,
        env=Settings().environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    seen, reason = json.loads(result.stdout)

    assert set(seen.values()) <= {"No space left on device"}
    assert reason or seen.keys() == set(DISKS)
    assert list(tmp_path.rglob("before")) == [], "the mounts were of that process alone"


def test_a_clock_goes_wrong_and_right_again_in_a_process_that_runs(tmp_path: Path) -> None:
    clocks = Clocks(tmp_path)
    script = "import time\nwhile input():\n    print(time.time_ns(), time.time(), flush=True)"
    environment = Settings().environment()
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", script],
        env=environment | clocks.environment("it", environment["PYTHONPATH"]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process, process.stdin, process.stdout:
        for offset_s in (0, 30, -30, 0):
            clocks.step("it", offset_s * 1_000)
            time.sleep(READ_EVERY_S + 0.1)
            before_s = time.time()
            print("now", file=process.stdin, flush=True)
            told_ns, told_s = map(float, process.stdout.readline().split())
            after_s = time.time()

            for told in (told_ns / 1e9, told_s):
                assert before_s - 0.001 <= told - offset_s <= after_s + 0.001
        print(file=process.stdin, flush=True)
