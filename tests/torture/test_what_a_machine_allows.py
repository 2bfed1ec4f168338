"""Disks that can be full and clocks that can be set: they work, or it is said why they do not."""

import json
import subprocess
import sys
from pathlib import Path

from tools.settings import CHECKOUT, Settings
from tools.torture.clocks import Clocks, find_library
from tools.torture.schedule import DISKS

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
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    seen, reason = json.loads(result.stdout)

    assert set(seen.values()) <= {"No space left on device"}
    assert reason or seen.keys() == set(DISKS)
    assert list(tmp_path.rglob("before")) == [], "the mounts were of that process alone"


def test_what_is_no_library_is_not_taken_for_one(tmp_path: Path) -> None:
    named = tmp_path / "libfaketime.so.1"
    assert find_library(tmp_path, named) == (None, f"{named} is no file")

    named.write_bytes(b"nothing that can be loaded")
    library, reason = find_library(tmp_path, named)
    assert library is None
    assert reason is not None


def test_a_clock_goes_wrong_and_right_again_where_the_library_is(tmp_path: Path) -> None:
    library, reason = find_library(tmp_path)
    if library is None:
        assert reason
        return
    clocks = Clocks(tmp_path, library)
    offsets = []
    for offset_ms in (30_000, -30_000, 0):
        clocks.step("it", offset_ms)
        script = "import time; print(time.time())"
        run = subprocess.run(
            [sys.executable, "-I", "-c", script],
            env=Settings().environment() | clocks.environment("it"),
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        here = subprocess.run(
            [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True
        )
        offsets.append(round((float(run.stdout) - float(here.stdout)) / 10))
    assert offsets == [3, -3, 0]
