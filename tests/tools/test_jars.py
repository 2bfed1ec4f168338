"""Kafka's jars are believed by their checksums alone."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.errors import JarsError
from tools.jars import SUMS, ensure_jars, read_sums

GOOD = {"kafka.jar": b"the broker", "slf4j.jar": b"its logger"}
DAMAGED = GOOD | {"slf4j.jar": b"its l0gger"}
CUT = {"kafka.jar": b"the broker"}


class Mirror:
    """Serves one set of files after the other, as a network may: errors are raised."""

    def __init__(self, *answers: dict[str, bytes] | Exception) -> None:
        self.answers = list(answers)

    def __call__(self, folder: Path) -> list[Path]:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        for name, content in answer.items():
            (folder / name).write_bytes(content)
        return sorted(folder.iterdir())


@pytest.fixture
def ensure(tmp_path: Path) -> Callable[[Mirror], list[Path]]:
    sums = tmp_path / "sums"
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}" for name, content in GOOD.items()]
    sums.write_text("\n".join(lines) + "\n")
    return lambda mirror: ensure_jars(tmp_path / "jars", sums, mirror)


def contents(jars: list[Path]) -> dict[str, bytes]:
    return {jar.name: jar.read_bytes() for jar in jars}


def test_good_jars_are_fetched_once(ensure: Callable[[Mirror], list[Path]]) -> None:
    assert contents(ensure(Mirror(GOOD))) == GOOD
    assert contents(ensure(Mirror())) == GOOD


@pytest.mark.parametrize("harm", ["changed", "cut", "missing", "added"])
def test_jars_that_were_harmed_are_fetched_again(
    ensure: Callable[[Mirror], list[Path]], harm: str
) -> None:
    jar = ensure(Mirror(GOOD))[0]
    if harm == "changed":
        jar.write_bytes(b"the br0ker")
    elif harm == "cut":
        jar.write_bytes(jar.read_bytes()[:4])
    elif harm == "missing":
        jar.unlink()
    else:
        (jar.parent / "intruder.jar").write_bytes(b"")

    assert contents(ensure(Mirror(GOOD))) == GOOD


@pytest.mark.parametrize("answer", [DAMAGED, CUT])
def test_a_damaged_download_is_tried_once_more(
    ensure: Callable[[Mirror], list[Path]], answer: dict[str, bytes]
) -> None:
    assert contents(ensure(Mirror(answer, GOOD))) == GOOD


def test_what_stays_damaged_is_refused_and_not_kept(
    ensure: Callable[[Mirror], list[Path]], tmp_path: Path
) -> None:
    with pytest.raises(JarsError, match=r"slf4j.jar has another SHA-256 sum.*Nothing of it was"):
        ensure(Mirror(DAMAGED, DAMAGED))

    assert [path.name for path in (tmp_path / "jars").iterdir()] == ["lock"]


def test_a_network_that_fails_for_a_moment_is_tried_again(
    ensure: Callable[[Mirror], list[Path]],
) -> None:
    assert contents(ensure(Mirror(ConnectionError("reset by peer"), GOOD))) == GOOD


def test_the_committed_sums_are_those_of_kafka() -> None:
    sums = read_sums(SUMS)

    assert "kafka_2.13-4.3.1.jar" in sums
    assert "slf4j-simple-1.7.36.jar" in sums
    assert all(len(digest) == 64 for digest in sums.values())
    assert "://" not in SUMS.read_text()
