"""Where things lie under a workdir's .albor, and how small files are written there. Knows no attempt's meaning and no wire."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.@+=,")
NAME_LIMIT = 200
FULL = (errno.ENOSPC, errno.EDQUOT)


class BadName(ValueError):
    """A name that cannot become a folder name."""


def quote(name: str) -> str:
    """A folder name for any resource id: other characters as %XX, injective, never `.`, `..` or hidden. Raises BadName."""
    raw = name.encode("utf-8", "surrogateescape")
    text = "".join(chr(byte) if byte in SAFE else "%%%02X" % byte for byte in raw)
    if text.startswith("."):
        text = "%2E" + text[1:]
    if not text or len(text) > NAME_LIMIT:
        raise BadName("a resource id must have 1 to %d characters: %r" % (NAME_LIMIT, name[:80]))
    return text


def utc(seconds: float | None = None) -> str:
    """The wall clock as `2026-03-02T14:10:02.123Z`; for people, never compared between machines."""
    now = time.time() if seconds is None else seconds
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + ".%03dZ" % int(now % 1 * 1000)


class Layout:
    """The paths under one workdir."""

    def __init__(self, workdir: str) -> None:
        self.workdir = workdir
        self.home = os.path.join(workdir, ".albor")
        self.attempts = os.path.join(self.home, "attempts")
        self.work = os.path.join(self.home, "work")
        self.code = os.path.join(self.home, "code")
        self.store = os.path.join(self.home, "store")
        self.trees = os.path.join(self.store, "trees")
        self.results = os.path.join(self.store, "results")
        self.kept = os.path.join(self.home, "kept")
        self.incoming = os.path.join(self.home, "incoming")
        self.leases = os.path.join(self.home, "leases")
        self.stat_cache = os.path.join(self.home, "stat-cache")
        self.head = os.path.join(self.home, "head")

    def path(self, name: str) -> str:
        """An absolute path from one that is relative to the workdir, `~` expanded."""
        if name.startswith("~"):
            name = os.path.expanduser(name)
        return os.path.normpath(os.path.join(self.workdir, name))

    def relative(self, path: str) -> str:
        """The path as shown: relative to the workdir where it lies in it."""
        return path[len(self.workdir) + 1 :] if path.startswith(self.workdir + "/") else path


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write every byte, however many calls that takes."""
    view = memoryview(data)
    while len(view):
        view = view[os.write(descriptor, view) :]


def write_file(path: str, data: bytes, sync: bool = False, mode: int = 0o644) -> None:
    """Write a file that nobody else writes; `sync` returns only when the bytes are durable."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        write_all(descriptor, data)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary(path: str) -> str:
    """A name beside `path` that no other process uses."""
    folder, name = os.path.split(path)
    return os.path.join(folder, ".%s.%s.tmp" % (name[:100], os.urandom(6).hex()))


def replace_file(path: str, data: bytes, sync: bool = False) -> None:
    """Publish a file by rename, so that a reader sees the old or the new one; `sync` makes it durable, then its name."""
    name = temporary(path)
    try:
        write_file(name, data, sync)
        os.rename(name, path)
    except BaseException:
        unlink(name)
        raise
    if sync:
        sync_folder(os.path.dirname(path))


def sync_folder(path: str) -> None:
    """Make a folder's names durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unlink(path: str) -> None:
    """Remove a file or link that may be gone already."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def lock_file(path: str, wait_s: float, shared: bool = False) -> int | None:
    """A descriptor that holds the flock of a file, made where it is not there; None when another holds it all that time.

    `shared`: the file may be another account's.
    """
    descriptor = _open_shared(path) if shared else os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(0.01)
        except OSError:
            os.close(descriptor)
            raise


def _open_shared(path: str) -> int:
    """Reading is all that a lock takes; a file of another account in a sticky folder may not even be opened as one to be made."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644))
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def read_bytes(path: str, limit: int = 64 << 20) -> bytes | None:
    """A small file's bytes, or None where it is not there or cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        parts, left = [], limit
        while left > 0:
            part = os.read(descriptor, min(left, 1 << 16))
            if not part:
                break
            parts.append(part)
            left -= len(part)
        return b"".join(parts)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def read_json(path: str) -> dict[str, Any] | None:
    """A small JSON object, or None where it is absent, torn or something else."""
    data = read_bytes(path)
    if not data:
        return None
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def to_json(value: object) -> bytes:
    """The bytes of a small JSON file of ours."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"
