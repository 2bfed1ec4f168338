"""A home: one stack at a time, one data format, and only its own orphans are stopped."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.errors import AlreadyRunningError, DataFormatError
from tools.home import DATA_FORMAT, Home, process_created, write_json
from tools.ports import is_free


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def test_a_new_home_gets_the_present_format(home: Home) -> None:
    home.require_format()
    (home.root / "kafka").mkdir()

    home.require_format()


@pytest.mark.parametrize(
    ("found", "age"), [(DATA_FORMAT - 1, "an older"), (DATA_FORMAT + 1, "a newer")]
)
def test_data_of_another_format_are_refused_with_advice(home: Home, found: int, age: str) -> None:
    home.require_format()
    write_json(home.root / "format.json", {"format": found})

    with pytest.raises(DataFormatError, match=f"{age} format.*LITMUS_HOME=.*make clean"):
        home.require_format()


def test_data_without_a_format_are_refused(home: Home) -> None:
    home.kafka.mkdir(parents=True)

    with pytest.raises(DataFormatError, match="without a format number"):
        home.require_format()


def test_one_holder_at_a_time(home: Home) -> None:
    assert home.holder() is None

    with home.locked():
        assert home.holder() == os.getpid()
        with pytest.raises(AlreadyRunningError, match=f"pid {os.getpid()}"), home.locked():
            pass

    assert home.holder() is None
    with home.locked():
        pass


def test_the_brokers_ports_are_kept_and_free(home: Home) -> None:
    ports = home.kafka_ports()

    assert Home(home.root).kafka_ports() == ports
    assert all(is_free(port) for port in ports)


def test_orphans_are_stopped_and_strangers_are_not(home: Home) -> None:
    program = "import time; time.sleep(600)"
    command = [sys.executable, "-c", program]
    with (
        subprocess.Popen(command) as orphan,
        subprocess.Popen(command) as same_pid_later,
        subprocess.Popen(command) as other_program,
    ):
        try:
            entries = [
                _entry("orphan", orphan, program=program),
                _entry("later", same_pid_later, program=program, moved_seconds=-60),
                _entry("other", other_program, program="ingest_gateway"),
                {"name": "never started", "pid": None, "created": None, "program": program},
            ]
            home.root.mkdir()
            write_json(home.stack, {"processes": entries})

            assert home.stop_orphans() == ["orphan"]

            assert process_created(orphan.pid) is None
            assert same_pid_later.poll() is None
            assert other_program.poll() is None
        finally:
            for process in (orphan, same_pid_later, other_program):
                process.kill()


def _entry(
    name: str, process: "subprocess.Popen[bytes]", *, program: str, moved_seconds: float = 0
) -> dict[str, object]:
    created = process_created(process.pid)
    assert created is not None
    return {
        "name": name,
        "pid": process.pid,
        "created": created + moved_seconds,
        "program": program,
    }
