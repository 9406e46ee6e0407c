"""The project's files on a machine that is not the controller's: compared by content, written by rename, taken away when they went.

    .albor/project    {"version", "digest", "files": {path: digest}}, as last completed

What somebody changed here is never lost: it is moved to .albor/kept/<run>/project/ before the project's file takes its place.
"""

from __future__ import annotations

import os

from albor_pipeline.agent import attempts, hashing
from albor_pipeline.agent.files import FileError, Source
from albor_pipeline.agent.hashing import StatCache
from albor_pipeline.agent.layout import Layout, read_json, replace_file, temporary, to_json, unlink, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    Item = tuple[str, str, int, str, int]  # path, f or l, executable, digest, bytes

VERSION = 1


class Project:
    """The project files of one workdir."""

    def __init__(self, layout: Layout, cache: StatCache) -> None:
        self._layout = layout
        self._cache = cache
        self._record = os.path.join(layout.home, "project")

    def _last(self) -> Mapping[str, Any]:
        return read_json(self._record) or {"digest": "", "files": {}}

    def is_same(self, digest: str) -> bool:
        """Whether the project of that digest is here, no file of it touched since."""
        last = self._last()
        return last["digest"] == digest and all(self._found(path) == known for path, known in last["files"].items())

    def lacking(self, items: Sequence[Item]) -> list[int]:
        """Which of the project's files are not here as they should be. Raises FileError for a path that leads out of the folder."""
        for item in items:
            if item[0].startswith("/") or ".." in item[0].split("/") or item[0].split("/")[0] == ".albor":
                raise FileError("bad-name", "a project file must lie in the project: %r" % item[0])
        found = [index for index, item in enumerate(items) if self._found(item[0]) != _mark(item)]
        self._cache.save()
        return found

    def _found(self, path: str) -> str | None:
        """The mark of what lies at a path, None where that is no file and no link."""
        whole = os.path.join(self._layout.workdir, path)
        try:
            info = os.lstat(whole)
            kind = info.st_mode & 0o170000
            if kind == 0o120000:
                return "l0" + hashing.digest_bytes(os.fsencode(os.readlink(whole)))
            if kind == 0o100000:
                return "f%d%s" % (1 if info.st_mode & 0o100 else 0, self._cache.digest(whole, info))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return ""

    def put(self, items: Sequence[Item], data: Iterator[bytes | memoryview], run: str) -> list[str]:
        """Write these files, whose bytes come one after another; where what was in their way is now. Raises OSError, FileError."""
        last, kept = self._last()["files"], list[str]()
        source = Source(data)
        for item in items:
            self._write(item, source, last.get(item[0]), run, kept)
        return kept

    def _write(self, item: Item, source: Source, last: str | None, run: str, kept: list[str]) -> None:
        path, letter, executable, digest, size = item
        whole = os.path.join(self._layout.workdir, path)
        self._clear_way(path, last, run, kept)
        os.makedirs(os.path.dirname(whole), exist_ok=True)
        name = temporary(whole)
        try:
            if letter == "l":
                text = source.take(size)
                found = hashing.digest_bytes(text)
                os.symlink(os.fsdecode(text), name)
            else:
                found = _write_parts(name, source.parts(size), 0o755 if executable else 0o644)
            if found != digest:
                raise FileError("digest", "%s: other bytes arrived than were announced" % path)
            os.rename(name, whole)
        finally:
            unlink(name)

    def _clear_way(self, path: str, last: str | None, run: str, kept: list[str]) -> None:
        """Move aside what lies at the path, or is a file where a folder of it has to be, unless it is what we put there."""
        folder = os.path.dirname(path)
        while folder:
            if os.path.lexists(os.path.join(self._layout.workdir, folder)):
                if not os.path.isdir(os.path.join(self._layout.workdir, folder)):
                    kept.append(self._keep(folder, run))
                break
            folder = os.path.dirname(folder)
        found = self._found(path)
        if found is not None and found != last:
            kept.append(self._keep(path, run))

    def _keep(self, path: str, run: str) -> str:
        target = os.path.join(self._layout.kept, os.path.basename(run), "project", path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if os.path.lexists(target):
            target += "." + os.urandom(4).hex()
        os.rename(os.path.join(self._layout.workdir, path), target)
        return self._layout.relative(target)

    def complete(self, digest: str, items: Sequence[Item]) -> int:
        """Every file is here: take away those that the project has no more and nobody changed; how many. Raises OSError."""
        marks = {item[0]: _mark(item) for item in items}
        gone = 0
        for path, known in self._last()["files"].items():
            if path not in marks and self._found(path) == known:
                attempts.remove_tree(os.path.join(self._layout.workdir, path))
                self._remove_empty(os.path.dirname(path))
                gone += 1
        os.makedirs(self._layout.home, exist_ok=True)
        replace_file(self._record, to_json({"version": VERSION, "digest": digest, "files": marks}))
        return gone

    def _remove_empty(self, folder: str) -> None:
        while folder:
            try:
                os.rmdir(os.path.join(self._layout.workdir, folder))
            except OSError:
                return
            folder = os.path.dirname(folder)


def _mark(item: Item) -> str:
    return "%s%d%s" % (item[1], item[2], item[3])


def _write_parts(name: str, parts: Iterator[bytes | memoryview], mode: int) -> str:
    """The digest of what was written."""
    hasher = hashing.new_hasher()
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        for part in parts:
            hasher.update(part)
            write_all(descriptor, part)
    finally:
        os.close(descriptor)
    return str(hasher.hexdigest())
