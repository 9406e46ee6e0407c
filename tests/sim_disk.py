"""SimDisk: a disk in memory that stops after call k and lists every disk the kernel may leave then. Knows nothing of what the files mean.

What is certain after a power cut: bytes that were there at the last fsync of their file, names that were there at the last
fsync_dir of their folder. Of the rest any folder may keep any of its changes (of more than three: any prefix), and any
file none, a part (its beginning, or its end behind zeros) or all of what was written to it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path

CALLS = ("open", "write", "truncate", "fsync", "rename", "unlink", "mkdir", "fsync_dir")
FOLDER = -1


class PowerCut(BaseException):
    """The machine lost its power; nothing catches this."""


@dataclass
class _File:
    live: bytes = b""
    durable: bytes = b""
    versions: list[bytes] = field(default_factory=list)
    distrusted: bool = False

    def change(self, data: bytes) -> None:
        """`data` is what the file holds now; what may be on the disk until the next fsync grows by it."""
        added = data[len(self.live) :]
        if data.startswith(self.live) and added:
            half = (len(added) + 1) // 2
            self.versions += [self.live + added[:half], self.live + bytes(half) + added[half:]]
        self.live = data
        self.versions.append(data)

    def possible(self) -> tuple[bytes, ...]:
        return tuple(dict.fromkeys((self.durable, *self.versions)))


class SimHold:
    """A lock that nobody else can want."""

    def describe(self, since_utc: str, run: str | None) -> None:
        """Nobody reads it."""

    def lost(self) -> bool:
        return False

    def release(self) -> None:
        """Nothing to give back."""


Names = dict[Path, dict[str, int]]


class SimDisk:
    """`stop_after` calls the power goes; call `fail_at` (from 1) raises `fail_with`; calls named in `skips` do nothing at all."""

    def __init__(
        self, *, stop_after: int | None = None, fail_at: int | None = None, fail_with: int = errno.EIO, skips: str = ""
    ) -> None:
        self.calls = 0
        self.counts = dict.fromkeys(CALLS, 0)
        self._stop_after = stop_after
        self._fail_at = fail_at
        self._fail_with = fail_with
        self._fail_next = ""
        self._fail_until = ""
        self._skips = skips
        self._files: dict[int, _File] = {}
        self._live: Names = {Path("/"): {}}
        self._durable: Names = {Path("/"): {}}
        self._pending: dict[Path, list[tuple[str, int | None]]] = {}
        self._handles: dict[int, int] = {}
        self._next = 3

    def open(self, path: Path) -> int:
        self._call("open")
        folder = self._folder(path.parent)
        if path.name not in folder:
            number = self._number()
            self._files[number] = _File()
            self._link(path, number)
        handle = self._number()
        self._handles[handle] = folder[path.name]
        return handle

    def write(self, handle: int, data: bytes) -> None:
        file = self._file(handle)
        try:
            self._call("write")
        except OSError:
            file.change(file.live + data[: len(data) // 2])
            raise
        file.change(file.live + data)

    def truncate(self, handle: int, size_bytes: int) -> None:
        self._call("truncate")
        file = self._file(handle)
        file.change(file.live[:size_bytes])

    def fsync(self, handle: int) -> None:
        file = self._file(handle)
        try:
            self._call("fsync")
        except OSError:
            file.distrusted = True
            raise
        if not file.distrusted and self._skips != "fsync":
            file.durable, file.versions = file.live, []

    def rename(self, old: Path, new: Path) -> None:
        self._call("rename")
        assert old.parent == new.parent, "a rename between folders is not durable in one step"
        number = self._folder(old.parent)[old.name]
        folder, changes = self._folder(old.parent), self._pending.setdefault(old.parent, [])
        folder[new.name] = folder.pop(old.name)
        changes.append((f"{old.name}/{new.name}", number))

    def unlink(self, path: Path) -> None:
        self._call("unlink")
        if path.name not in self._folder(path.parent):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._link(path, None)

    def mkdir(self, path: Path) -> None:
        self._call("mkdir")
        if path not in self._live:
            self._live[path] = {}
            self._durable[path] = {}
            self._link(path, FOLDER)

    def fsync_dir(self, path: Path) -> None:
        self._call("fsync_dir")
        self._folder(path)
        if self._skips != "fsync_dir":
            for name, number in self._pending.pop(path, []):
                _apply(self._durable[path], name, number)

    def close(self, handle: int) -> None:
        del self._handles[handle]

    def read(self, path: Path, offset: int = 0, limit_bytes: int = -1) -> bytes | None:
        number = self._live.get(path.parent, {}).get(path.name)
        if number is None:
            return None
        data = self._files[number].live[offset:]
        return data if limit_bytes < 0 else data[:limit_bytes]

    def names(self, path: Path) -> tuple[str, ...]:
        return tuple(sorted(self._live.get(path, {})))

    def exists(self, path: Path) -> bool:
        return path in self._live or path.name in self._live.get(path.parent, {})

    def lock(self, path: Path) -> SimHold:
        assert path.parent in self._live
        return SimHold()

    def filesystem(self, path: Path) -> str:
        return "sim"

    def images(self) -> Iterator[SimDisk]:
        """Every disk that may be found when the power goes now."""
        folders = list(self._pending)
        for kept in product(*(_choices(self._pending[folder]) for folder in folders)):
            names = {folder: dict(entries) for folder, entries in self._durable.items()}
            for folder, changes in zip(folders, kept, strict=True):
                for name, number in changes:
                    _apply(names[folder], name, number)
            numbers = sorted({number for entries in names.values() for number in entries.values()} - {FOLDER})
            for contents in product(*(self._files[number].possible() for number in numbers)):
                yield self._image(names, dict(zip(numbers, contents, strict=True)))

    def again(self) -> SimDisk:
        """The same disk for the next process, no power cut between: nothing is lost and nothing fails any more."""
        return self._image(self._live, {number: file.live for number, file in self._files.items()})

    def content(self) -> frozenset[tuple[Path, bytes | None]]:
        """Every path with its bytes (None: a folder), to tell whether two disks are the same."""
        return frozenset(
            (folder / name, None if number == FOLDER else self._files[number].live)
            for folder, entries in self._live.items()
            for name, number in entries.items()
        )

    def stopping(self, after: int) -> SimDisk:
        """This disk, with the power going after so many further calls."""
        self._stop_after = self.calls + after
        return self

    def fail_next(self, name: str, error: int) -> None:
        """Let the next call of this name fail."""
        self._fail_next, self._fail_with = name, error

    def fail_until(self, name: str, error: int) -> None:
        """Let every call fail until there is one of this name (a full disk, until something is removed)."""
        self._fail_until, self._fail_with = name, error

    def _image(self, names: Names, contents: dict[int, bytes]) -> SimDisk:
        image = SimDisk(skips=self._skips)
        image._next = self._next
        image._files = {number: _File(data, data) for number, data in contents.items()}
        reachable = {folder: entries for folder, entries in names.items() if _reachable(folder, names)}
        image._live = {folder: dict(entries) for folder, entries in reachable.items()}
        image._durable = {folder: dict(entries) for folder, entries in reachable.items()}
        return image

    def _call(self, name: str) -> None:
        if self._stop_after is not None and self.calls >= self._stop_after:
            raise PowerCut
        self.calls += 1
        self.counts[name] += 1
        if name == self._fail_until:
            self._fail_until = ""
        if name == self._fail_next or self._fail_until:
            self._fail_next = ""
            raise OSError(self._fail_with, os.strerror(self._fail_with))
        if self.calls == self._fail_at:
            raise OSError(self._fail_with, os.strerror(self._fail_with))

    def _folder(self, path: Path) -> dict[str, int]:
        if path not in self._live:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self._live[path]

    def _file(self, handle: int) -> _File:
        return self._files[self._handles[handle]]

    def _link(self, path: Path, number: int | None) -> None:
        _apply(self._folder(path.parent), path.name, number)
        self._pending.setdefault(path.parent, []).append((path.name, number))

    def _number(self) -> int:
        self._next += 1
        return self._next


def _choices(changes: list[tuple[str, int | None]]) -> list[tuple[tuple[str, int | None], ...]]:
    """Which of a folder's changes may be kept: any of them when they are few, else any prefix."""
    if len(changes) > 3:
        return [tuple(changes[:length]) for length in range(len(changes) + 1)]
    return [subset for length in range(len(changes) + 1) for subset in combinations(changes, length)]


def _apply(entries: dict[str, int], name: str, number: int | None) -> None:
    """One change of a folder: a name (None: gone), or `old/new` for a rename."""
    old, slash, new = name.partition("/")
    if slash:
        entries.pop(old, None)
        assert number is not None
        entries[new] = number
    elif number is None:
        entries.pop(name, None)
    else:
        entries[name] = number


def _reachable(folder: Path, names: Names) -> bool:
    return folder == Path("/") or (folder.name in names.get(folder.parent, {}) and _reachable(folder.parent, names))
