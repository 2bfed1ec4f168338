"""Folders that are disks of their own, so that they can be full.

The mounts live in a mount namespace of this process and what it starts: nobody else sees them, and
they are gone when the last of these processes is, however it ends.
"""

import ctypes
import errno
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

_CLONE_NEWNS = 0x0002_0000
_GIB = 2**30
_IMAGE_BYTES = 12 * _GIB
"""Of a broker's disk: a sparse file, so what is not written takes no room."""

_MEMORY_BYTES = 2 * _GIB
_BALLAST = ".ballast"
_LEFT_BYTES = 64 * 1_024
_COMMAND_SECONDS_MAX = 60
_FILLINGS_MAX = 10

ON_IMAGE = frozenset({"kafka"})
"""Too large for memory: these get a file system in a file; the others a tmpfs."""


class Disk:
    """A folder with a file system of its own."""

    def __init__(self, folder: Path, *, is_image: bool) -> None:
        self._folder = folder
        self._is_image = is_image

    def fill(self) -> None:
        """Leave (almost) no room."""
        if self._is_image:
            with (self._folder / _BALLAST).open("wb") as file:
                # Whoever works on this disk takes of the room between a look at it and the next.
                for _ in range(_FILLINGS_MAX):
                    left = self._room() - _LEFT_BYTES
                    if left <= 0 or _grow(file.fileno(), left):
                        break
            return
        room = os.statvfs(self._folder)
        used = (room.f_blocks - room.f_bfree) * room.f_frsize
        _resize(self._folder, used + _LEFT_BYTES)

    def _room(self) -> int:
        room = os.statvfs(self._folder)
        return room.f_bavail * room.f_frsize

    def free(self) -> None:
        """Make room again."""
        if self._is_image:
            (self._folder / _BALLAST).unlink(missing_ok=True)
        else:
            _resize(self._folder, _MEMORY_BYTES)


def mount_disks(home: Path, names: Iterable[str]) -> tuple[dict[str, Disk], str | None]:
    """Give folders of a home disks of their own; return those that got one, and why others not.

    Call it while this process has one thread and has started nothing.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare"):
        return {}, "this system has no mount namespaces"
    if libc.unshare(_CLONE_NEWNS) != 0:
        return {}, f"no mount namespace of our own: {os.strerror(ctypes.get_errno())}"
    found: dict[str, Disk] = {}
    problems: list[str] = []
    try:
        _run("mount", "--make-rprivate", "/")
        for name in names:
            found[name] = _mount(home, name, is_image=name in ON_IMAGE)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        problems.append(f"no disk of its own for {name}: {said.strip()}")
    return found, "; ".join(problems) or None


def _mount(home: Path, name: str, *, is_image: bool) -> Disk:
    folder = home / name
    folder.mkdir(parents=True, exist_ok=True)
    if is_image:
        image = home / f"{name}.img"
        with image.open("wb") as file:
            file.truncate(_IMAGE_BYTES)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
        _run("mount", "-o", "loop", str(image), str(folder))
    else:
        _run("mount", "-t", "tmpfs", "-o", f"size={_MEMORY_BYTES}", "litmus", str(folder))
    return Disk(folder, is_image=is_image)


def _grow(file: int, size: int) -> bool:
    """Make a file larger; return whether there was room for it."""
    try:
        os.posix_fallocate(file, os.fstat(file).st_size, size)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return False
    return True


def _resize(folder: Path, size: int) -> None:
    _run("mount", "-o", f"remount,size={size}", str(folder))


def _run(*command: str) -> None:
    subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=_COMMAND_SECONDS_MAX
    )
