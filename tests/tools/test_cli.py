"""The command line: what machines may read, and refusals that say what to do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.topics import CHANGELOGS, TOPICS
from tools.errors import BindError, PortBusyError
from tools.logs import LogFile, last_lines
from tools.ports import free_ports, require_free
from tools.processes import reachable, url_of, without_password
from tools.settings import CHECKOUT
from tools.stack import require_loopback


def litmus(home: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {name: text for name, text in os.environ.items() if "LITMUS" not in name}
    return subprocess.run(
        [sys.executable, "-P", "-m", "tools", *arguments],
        env=environment | {"PYTHONPATH": str(CHECKOUT), "LITMUS_HOME": str(home)} | settings,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_topics_are_described_for_machines(tmp_path: Path) -> None:
    result = litmus(tmp_path, "topics", "describe", "--json", LITMUS_PARTITIONS="3")

    described = {topic["name"]: topic for topic in json.loads(result.stdout)}
    assert described.keys() == {topic.name for topic in (*TOPICS, *CHANGELOGS)}
    assert described["litmus.events"]["partitions"] == 3
    assert described["litmus.dlq"]["retention"] == "720h"
    assert described["litmus.control"]["retention"] == "for ever"
    for topic in described.values():
        assert topic.keys() >= {
            "name", "key", "value", "partitions", "retention", "cleanup_policy",
        }  # fmt: skip


def test_status_of_nothing_is_an_answer_and_a_failure(tmp_path: Path) -> None:
    result = litmus(tmp_path, "status", "--json")

    assert result.returncode == 1
    assert json.loads(result.stdout)["ready"] is False


def test_down_twice_is_no_failure(tmp_path: Path) -> None:
    result = litmus(tmp_path, "down")

    assert (result.returncode, result.stdout.split()[0]) == (0, "No")


@pytest.mark.parametrize("setting", [{"LITMUS_PARTITIONS": "0"}, {"LITMUS_LATENESS": "soon"}])
def test_a_wrong_setting_is_named(tmp_path: Path, setting: dict[str, str]) -> None:
    result = litmus(tmp_path, "up", **setting)

    assert result.returncode == 1
    assert next(iter(setting)) in result.stdout
    assert "Traceback" not in result.stderr


def test_an_address_that_others_reach_needs_its_switch(tmp_path: Path) -> None:
    result = litmus(tmp_path, "up", "--bind", "0.0.0.0")

    assert result.returncode == 1
    assert "--allow-remote" in result.stdout
    require_loopback("0.0.0.0", allow_remote=True)


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_switch(bind: str) -> None:
    require_loopback(bind, allow_remote=False)


@pytest.mark.parametrize("bind", ["0.0.0.0", "::", "192.168.1.4", "example.org"])
def test_anything_else_does(bind: str) -> None:
    with pytest.raises(BindError):
        require_loopback(bind, allow_remote=False)


def test_a_busy_port_names_the_setting_to_change() -> None:
    (port,) = free_ports(1)
    require_free(port, host="127.0.0.1", setting="LITMUS_QUERY_PORT")
    program = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); "
        "print('listens', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as listener:
        assert listener.stdout
        assert listener.stdout.readline() == b"listens\n"

        with pytest.raises(PortBusyError, match=f"pid {listener.pid}.*LITMUS_QUERY_PORT=<port>"):
            require_free(port, host="127.0.0.1", setting="LITMUS_QUERY_PORT")
        listener.kill()


def test_addresses_are_those_that_a_browser_here_can_open() -> None:
    assert url_of("0.0.0.0", 8000) == "http://127.0.0.1:8000"
    assert url_of("::1", 8000) == "http://[::1]:8000"
    assert reachable("192.168.1.4") == "192.168.1.4"


def test_a_password_is_never_shown() -> None:
    assert without_password("clickhouse://ann:secret@db:8123/x") == "clickhouse://ann@db:8123/x"
    assert without_password("chdb:///home/ann/data") == "chdb:///home/ann/data"


def test_a_log_is_read_as_it_grows_and_after_it_was_trimmed(tmp_path: Path) -> None:
    path = tmp_path / "gateway.log"
    log = LogFile(path)
    assert log.new_lines() == []

    with path.open("ab") as writer:
        writer.write(b"one\n\ntw")
        writer.flush()
        assert log.new_lines() == ["one"]
        writer.write(b"o\n")
        writer.flush()
        assert log.new_lines() == ["two"]

        log.trim(bytes_max=4)
        writer.write(b"six\n")
        writer.flush()
        assert log.new_lines() == ["six"]

    assert last_lines(path, 5) == ["six"]
    assert (tmp_path / "gateway.log.1").read_bytes() == b"one\n\ntwo\n"


def test_logs_of_an_unknown_process_name_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "merge.log").write_text("INFO merge look 7\n")

    assert "look 7" in litmus(tmp_path, "logs", "merge").stdout
    refused = litmus(tmp_path, "logs", "purge")
    assert (refused.returncode, "there are: merge" in refused.stdout) == (1, True)
