"""Disk: the one seam through which state is written, so that a test can cut the power at every call. Knows no journal and no lock file."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from albor_pipeline.errors import StateError
from albor_pipeline.state.hold import Hold, take
from albor_pipeline.state.mounts import filesystem_of

TEMP_PREFIX = ".tmp-"


class Disk(Protocol):
    """Eight calls change what is there; six only look. All of them raise OSError, and nothing else, when the disk fails.

    A write is durable after `fsync` of its handle; a name (new, renamed or gone) is durable after `fsync_dir` of its folder.
    """

    def open(self, path: Path) -> int:
        """A handle that appends to `path`, which is made when missing."""

    def write(self, handle: int, data: bytes) -> None:
        """Append all of `data`."""

    def truncate(self, handle: int, size_bytes: int) -> None:
        """Cut the file to `size_bytes`."""

    def fsync(self, handle: int) -> None:
        """Return only when everything written through `handle` is durable."""

    def rename(self, old: Path, new: Path) -> None:
        """Move a file or folder; a file at `new` is replaced at once."""

    def unlink(self, path: Path) -> None:
        """Remove a file."""

    def mkdir(self, path: Path) -> None:
        """Make a folder; one that exists is kept."""

    def fsync_dir(self, path: Path) -> None:
        """Return only when every name in the folder is durable."""

    def close(self, handle: int) -> None:
        """Give the handle back."""

    def read(self, path: Path, offset: int = 0, limit_bytes: int = -1) -> bytes | None:
        """The bytes from `offset` on, at most `limit_bytes` of them; None when there is no such file."""

    def names(self, path: Path) -> tuple[str, ...]:
        """The sorted names in a folder; none when there is no such folder."""

    def exists(self, path: Path) -> bool:
        """True when there is something of that name."""

    def lock(self, path: Path) -> Hold:
        """Take the one writer's lock at once, or raise LockedError that names the holder."""

    def filesystem(self, path: Path) -> str:
        """The type of the file system that `path` (or its nearest existing parent) lies on, as the kernel names it."""


class RealDisk:
    """The disk of this machine. `fsync` is fdatasync: it makes the bytes and the size durable, not the times."""

    def open(self, path: Path) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, handle: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(handle, view) :]

    def truncate(self, handle: int, size_bytes: int) -> None:
        os.ftruncate(handle, size_bytes)

    def fsync(self, handle: int) -> None:
        os.fdatasync(handle)

    def rename(self, old: Path, new: Path) -> None:
        old.rename(new)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def mkdir(self, path: Path) -> None:
        path.mkdir(exist_ok=True)

    def fsync_dir(self, path: Path) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def close(self, handle: int) -> None:
        os.close(handle)

    def read(self, path: Path, offset: int = 0, limit_bytes: int = -1) -> bytes | None:
        try:
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(limit_bytes)
        except FileNotFoundError:
            return None

    def names(self, path: Path) -> tuple[str, ...]:
        try:
            return tuple(sorted(item.name for item in path.iterdir()))
        except FileNotFoundError:
            return ()

    def exists(self, path: Path) -> bool:
        return path.exists()

    def lock(self, path: Path) -> Hold:
        return take(path)

    def filesystem(self, path: Path) -> str:
        return filesystem_of(path)


def atomic_write(disk: Disk, path: Path, data: bytes) -> None:
    """Replace `path` by `data`: a reader, also after a power cut, sees the old bytes or the new ones, never a part.

    Order: temporary file of a random name, fsync, rename, fsync of the folder.
    """
    temp = path.with_name(f"{TEMP_PREFIX}{os.urandom(6).hex()}-{path.name}")
    try:
        handle = disk.open(temp)
        try:
            disk.write(handle, data)
            disk.fsync(handle)
        finally:
            disk.close(handle)
        disk.rename(temp, path)
    except OSError:
        with suppress(OSError):
            disk.unlink(temp)
        raise
    disk.fsync_dir(path.parent)


def remove_temporaries(disk: Disk, folder: Path) -> None:
    """Unlink what an interrupted `atomic_write` left in `folder`; only the holder of the lock may call this."""
    for name in disk.names(folder):
        if name.startswith(TEMP_PREFIX):
            disk.unlink(folder / name)


@contextmanager
def disk_faults(doing: str) -> Iterator[None]:
    """Turn an OSError into a StateError that says what was being done and what frees the way."""
    try:
        yield
    except OSError as error:
        raise StateError.of("state-disk", f"{doing}: {explain(error)}", *way_out(error)) from error


def explain(error: OSError) -> str:
    """The kernel's sentence for an error, without numbers and paths."""
    return os.strerror(error.errno) if error.errno else str(error)


def way_out(error: OSError) -> tuple[str, ...]:
    """What the user can do about a failed call."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ("free some space on that disk, then run the same command again: it continues",)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ("the state folder must be writable by this user",)
    return ("look at the disk (dmesg), then run the same command again: it continues from what is durable",)
