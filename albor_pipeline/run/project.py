"""Project: the files of the project folder that other machines get, and what a path of it comes to there. Sends nothing.

They are what git tracks, and what it neither tracks nor ignores; where there is no git, every file outside hidden folders.
What a resource makes on any machine is no project file, nor is the state folder. A path that the project has counts as
the project has it, on every machine that gets a copy.
"""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from albor_pipeline.agent import probe, trees
from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.agent.layout import Layout
from albor_pipeline.errors import AlborError
from albor_pipeline.model.observed import Tree

GIT = ("git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false")
LISTING = ("ls-files", "-z", "--cached", "--others", "--exclude-standard")
CACHES = ("__pycache__", "node_modules")
MAX_FILE_BYTES = 1 << 30


@dataclass(frozen=True)
class ProjectFile:
    """One file or link as it was when the project was looked at; `letter` is f or l, as in a tree."""

    path: str
    letter: str
    executable: bool
    digest: str
    size_bytes: int


class Project:
    """The files of one project folder; looked at when first asked for, and then once: what is sent later is what was planned with."""

    def __init__(self, root: Path, excluded: Callable[[str], bool]) -> None:
        self._root = root
        self._excluded = excluded
        self._home = Path(Layout(str(root)).home)
        self._cache = probe.new_cache(Layout(str(root)))
        self._files: tuple[ProjectFile, ...] | None = None

    @cached_property
    def paths(self) -> frozenset[str]:
        """Every project file, relative to the project folder."""
        listed = _of_git(self._root, "")
        found = listed if listed is not None else _of_walk(self._root)
        return frozenset(path for path in found if not self._excluded(path))

    @cached_property
    def _folders(self) -> frozenset[str]:
        return frozenset(str(above) for path in self.paths for above in Path(path).parents)

    def tree(self, path: str) -> Tree | None:
        """What a path or glob will be on a machine that has the project; None when no project file is meant."""
        if path.startswith(("/", "~")) or ".." in path.split("/"):
            return None
        whole = os.path.normpath(self._root / path)
        walked = trees.walk(whole)
        if walked is None:
            return None
        mine = [item for item in walked[1] if self._is_mine(item[1])]
        if not any(os.path.relpath(item[1], self._root) in self.paths for item in mine):
            return None
        tree = trees.read_walked((walked[0], mine), lambda path, _info: self._digests[os.path.relpath(path, self._root)])
        return Tree(tree.root, tree.files, tree.size_bytes)

    def _is_mine(self, path: str) -> bool:
        name = os.path.relpath(path, self._root)
        return name in self.paths or name in self._folders

    def look(self) -> tuple[ProjectFile, ...]:
        """Every project file with its digest, by path. Raises AlborError for one that is too big to be code."""
        if self._files is None:
            self._files = tuple(self._find())
            with suppress(OSError):  # a cache that cannot be kept only costs time
                self._home.mkdir(exist_ok=True)
                self._cache.save()
        return self._files

    @cached_property
    def _digests(self) -> Mapping[str, str]:
        return {file.path: file.digest for file in self.look()}

    def _find(self) -> Iterator[ProjectFile]:
        for path in sorted(self.paths):
            whole = self._root / path
            info = whole.lstat()
            if stat.S_ISLNK(info.st_mode):
                text = os.fsencode(whole.readlink())
                yield ProjectFile(path, "l", False, digest_bytes(text), len(text))
                continue
            if info.st_size > MAX_FILE_BYTES:
                what = f"{path} has {info.st_size / 1e6:,.0f} MB, too much to be sent to other machines as a file of the project"
                way = "let git ignore it, and let a task make it or fetch it where it is needed"
                raise AlborError.of("too-big", what, way)
            yield ProjectFile(path, "f", bool(info.st_mode & 0o100), self._cache.digest(str(whole), info), info.st_size)

    @cached_property
    def digest(self) -> str:
        """What tells one state of the project from another."""
        lines = (f"{file.letter}{int(file.executable)} {file.digest} {file.path}\0" for file in self.look())
        return digest_bytes("".join(lines).encode("utf-8", "surrogateescape"))

    def read(self, file: ProjectFile) -> bytes:
        """The bytes of a file, or the text of a link. Raises AlborError when they are not what look() says."""
        whole = self._root / file.path
        try:
            data = os.fsencode(whole.readlink()) if file.letter == "l" else whole.read_bytes()
        except OSError:
            data = None
        if data is None or digest_bytes(data) != file.digest:
            raise AlborError.of("stale", f"plan is stale: {file.path} changed since it was made", "run the same command again")
        return data


def excluding(root: Path, state: Path, makers: Callable[[str], bool]) -> Callable[[str], bool]:
    """What is no project file although git may not ignore it: state, our own folder, and what `makers` says a resource makes."""
    states = os.path.relpath(state.resolve(), root.resolve()).split("/")

    def excluded(path: str) -> bool:
        parts = path.split("/")
        return ".albor" in parts or ".git" in parts or parts[: len(states)] == states or makers(path)

    return excluded


def _of_git(root: Path, below: str) -> list[str] | None:
    """What git lists, other repositories below included; None where there is no git or no repository."""
    environment: Mapping[str, str] = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        said = subprocess.run(
            [*GIT, "-C", f"{root}/{below}", *LISTING], env=environment, capture_output=True, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    found: list[str] = []
    for name in sorted({os.fsdecode(name) for name in said.stdout.split(b"\0") if name}):
        path = f"{below}{name}"
        try:
            mode = (root / path).lstat().st_mode
        except OSError:
            continue
        if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
            found.append(path)
        elif stat.S_ISDIR(mode):
            found += _of_git(root, path.rstrip("/") + "/") or []
    return found


def _of_walk(root: Path) -> list[str]:
    found = []
    for folder, folders, names in os.walk(root):
        whole = [Path(folder, name) for name in (*names, *folders)]
        found += [str(path.relative_to(root)) for path in whole if path.is_symlink() or path.is_file()]
        folders[:] = [name for name in folders if not name.startswith(".") and name not in CACHES]
    return found
