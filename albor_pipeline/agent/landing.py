"""Where a tree that came from another machine ends up: at a path, as the input of a task, or in the store, as a result. Knows no wire.

At a path nothing is taken away before all of the new is there. What lay there goes when its tree is on record here (an
earlier transfer or an attempt of ours brought it), else it is kept aside, as for outputs. In a folder that is on record only
what differs is changed, file by file; a note tells a later transfer of the two trees that are mixed there meanwhile.
"""

from __future__ import annotations

import contextlib
import os

from albor_pipeline.agent import trees
from albor_pipeline.agent.attempts import AttemptError, remove_tree
from albor_pipeline.agent.incoming import AGE_NS
from albor_pipeline.agent.layout import read_json, replace_file, temporary, to_json, unlink
from albor_pipeline.agent.outputs import Files, OutputError
from albor_pipeline.agent.store import NO_LINK, Store, StoreError, copy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from albor_pipeline.agent.incoming import Incoming
    from albor_pipeline.agent.layout import Layout
    from albor_pipeline.agent.listing import Entry
    from albor_pipeline.agent.probe import Prober

    Came = Mapping["str | None", os.stat_result]


class Lost(Exception):
    """The bytes of a digest were here a moment ago and are not any more."""

    def __init__(self, digest: str | None) -> None:
        super().__init__(digest)
        self.digest = digest


class Placing:
    """A tree that becomes what lies at a path; `there` when it does already. A path that is a link is followed."""

    def __init__(self, layout: Layout, prober: Prober, incoming: Incoming, request: Mapping[str, Any]) -> None:
        """Look at what lies at the path now; `known` are its entries."""
        self._layout = layout
        self._prober = prober
        self._incoming = incoming
        self._request = request
        path = layout.path(request["path"])
        self._pattern = path
        self._path = path if trees.MAGIC.intersection(path) and not os.path.lexists(path) else os.path.realpath(path)
        self._at: dict[str | None, tuple[str, int, os.stat_result]] = {}
        self._gone: set[str | None] = set()
        self._used: set[str] = set()
        self._made: list[tuple[str, os.stat_result, str]] = []
        self._stays: set[str] = set()
        self._taken: set[str] = set()  # files at the path that keep their name, or have a second one: those can only be copied
        with prober.caching() as cache:
            self._store = Store(layout, cache)
            self._before = trees.walk(self._path)
            self._found = trees.read_walked(self._before, cache.digest) if self._before is not None else None
        self.known = {entry: entry for entry in self._found.entries} if self._found is not None else {}
        if self._found is not None and self._before is not None:
            for entry, (_name, where, info) in zip(self._found.entries, self._before[1]):  # noqa: B905 (Python 3.9)
                if entry[1] == "f":
                    self._at.setdefault(entry[3], (where, entry[2], info))

    def expect(self, tree: trees.Tree, links: Mapping[str, str]) -> None:
        """What is to be put in place, and the text of each of its links."""
        self._tree = tree
        self._links = links
        self._path = self._pattern if tree.type == "glob" else os.path.realpath(self._pattern)
        self._note = self._incoming.note(self._path)
        self.there = self._found is not None and self._found.root == tree.root
        self._explained = self._explain()

    def _explain(self) -> list[str]:
        """The recorded trees that what lies at the path is made of; none when some of it is not ours."""
        if self._found is None:
            return []
        if os.path.exists(os.path.join(self._layout.trees, self._found.root)):
            return [self._found.root]
        roots: list[str] = (read_json(self._note) or {}).get("roots") or []
        mixed = [tree for root in roots if (tree := trees.recall(self._layout, root)) is not None]
        known = {entry[:4] for tree in mixed for entry in tree.entries}
        return roots if all(entry[:4] in known for entry in self._found.entries) else []

    def has(self, entry: Entry) -> bool:
        """Whether the bytes of a file are here, as far as stamps tell."""
        if entry[3] in self._gone:
            return False
        return entry[3] in self._at or self._store.is_whole(entry)

    def finish(self, came: Came) -> dict[str, Any]:
        """Put the tree in place: {"sig", "kept"}. Raises Lost, AttemptError, OSError."""
        kept: list[str] = []
        if not self.there:
            name, moves = self._prepare()
            try:
                if self._explained and self._found is not None and self._found.type == self._tree.type == "dir":
                    self._update(name, self._found, came)
                else:
                    self._build(name, came)
                    kept = self._swap(moves)
            finally:
                if os.path.lexists(name):
                    remove_tree(name)
            for digest in self._used:
                unlink(self._incoming.path(digest))
        return {"sig": self._proven(), "kept": kept}

    def _prepare(self) -> tuple[str, list[tuple[str, str]]]:
        """A name on the file system of the path that nobody looks at, and what is to be moved from there to where."""
        glob = self._tree.type == "glob"
        folder = trees.fixed_part(self._path) if glob else os.path.dirname(self._path)
        os.makedirs(folder, exist_ok=True)
        near = os.stat(folder).st_dev == os.stat(self._incoming.folder).st_dev
        name = temporary(os.path.join(self._incoming.folder, "build") if near else os.path.join(folder, os.path.basename(self._path)))
        if not glob:
            return name, [(name, self._path)]
        leaves = [entry[0] for entry in self._tree.entries if entry[1] != "d"]
        return name, [(os.path.join(name, leaf), os.path.join(folder, leaf)) for leaf in leaves]

    def _build(self, name: str, came: Came) -> None:
        if self._tree.type != "file":
            os.mkdir(name)
        with self._store.held():
            for entry in self._tree.entries:
                where = trees.place(name, entry[0])
                if self._tree.type == "glob":
                    os.makedirs(os.path.dirname(where), exist_ok=True)
                if entry[1] == "d":
                    os.makedirs(where, exist_ok=True)
                else:
                    self._leaf(entry, where, came)

    def _update(self, name: str, found: trees.Tree, came: Came) -> None:
        """Change what differs between what was found at the path and the tree; all that is new lies ready before anything goes."""
        old, new = ({entry[0]: entry for entry in tree.entries} for tree in (found, self._tree))
        fresh = [entry for entry in self._tree.entries if entry[0] not in old or old[entry[0]][:4] != entry[:4]]
        gone = [entry for entry in found.entries if entry[0] not in new or new[entry[0]][1] != entry[1]]
        going = {entry[0] for entry in (*gone, *fresh)}
        self._taken = {trees.place(self._path, name) for name in old if name not in going}
        os.mkdir(name)
        with self._store.held():
            for number, entry in enumerate(fresh):
                if entry[1] != "d":
                    self._leaf(entry, "%s/%d" % (name, number), came)
        self._refuse_changed([entry for entry in (*gone, *(old[entry[0]] for entry in fresh if entry[0] in old)) if entry[1] != "d"])
        replace_file(self._note, to_json({"path": self._path, "roots": [*self._explained, self._tree.root]}))
        for entry in reversed(gone):
            where = trees.place(self._path, entry[0])
            os.rmdir(where) if entry[1] == "d" else os.unlink(where)
        for number, entry in enumerate(fresh):
            where = trees.place(self._path, entry[0])
            os.mkdir(where) if entry[1] == "d" else os.rename("%s/%d" % (name, number), where)
        self._stays = {name for name in new if name in old and old[name][:4] == new[name][:4] and old[name][1] == "f"}
        unlink(self._note)

    def _refuse_changed(self, entries: list[Entry]) -> None:
        """Raise AttemptError when one of these was written to since it was looked at."""
        assert self._before is not None
        seen = {name: info for name, _where, info in self._before[1]}
        for entry in entries:
            if _stamp(os.lstat(trees.place(self._path, entry[0]))) != _stamp(seen[entry[0]]):
                raise self._meddled()

    def _meddled(self) -> AttemptError:
        return AttemptError("io", "%s was changed by someone else while it was put in place" % self._layout.relative(self._path))

    def _leaf(self, entry: Entry, where: str, came: Came) -> None:
        if entry[1] == "l":
            os.symlink(self._links[entry[0]], where)
        else:
            self._file(entry, where, came)

    def _file(self, entry: Entry, where: str, came: Came) -> None:
        digest, at = entry[3] or "", self._at.get(entry[3])
        if not entry[4]:
            os.close(os.open(where, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755 if entry[2] else 0o644))
        elif digest in came:
            alone = came[digest].st_nlink == 1 and digest not in self._used
            self._used.add(digest)
            self._share(self._incoming.path(digest), where, entry, came[digest] if alone else None)
            if not alone or entry[2] or came[digest].st_mode & 0o777 != 0o644:
                os.chmod(where, 0o755 if entry[2] else 0o644)
        elif at is not None and digest not in self._gone:
            leaves = bool(self._explained) and at[0] not in self._taken and at[1] == entry[2]
            self._taken.add(at[0])
            self._share(at[0], where, entry, at[2] if leaves else None)
        else:
            try:
                self._store.give(entry, where, True)
            except StoreError:
                raise self._lost(digest) from None

    def _share(self, source: str, where: str, entry: Entry, known: os.stat_result | None) -> None:
        """Give a file a second name when its stat is `known` and nobody else keeps the first one; else copy it."""
        digest = entry[3] or ""
        if known is not None:
            try:
                os.link(source, where)
                self._made.append((entry[0], known, digest))
                return
            except FileNotFoundError:
                raise self._lost(digest) from None
            except OSError as error:
                if error.errno not in NO_LINK:
                    raise
        try:
            whole = copy(source, where, digest)
        except FileNotFoundError:
            whole = False
        if not whole:
            raise self._lost(digest)
        os.chmod(where, 0o755 if entry[2] else 0o644)
        then_ns = os.lstat(where).st_mtime_ns - AGE_NS
        os.utime(where, ns=(then_ns, then_ns))
        self._made.append((entry[0], os.lstat(where), digest))

    def _lost(self, digest: str) -> Lost:
        self._gone.add(digest)
        self._used.clear()
        self._made.clear()
        self._taken.clear()
        return Lost(digest)

    def _swap(self, moves: list[tuple[str, str]]) -> list[str]:
        """Clear the path and move what was built to it; what was kept aside."""
        same = _stamps(trees.walk(self._path)) == _stamps(self._before)
        spec = {"resource": self._request["resource"], "run": self._request["run"], "outputs": [{"path": self._path}]}
        with self._prober.caching() as cache:
            files = Files(self._layout, spec, cache)
            try:
                files.clear(os.path.join(self._incoming.folder, "none"), own=same and bool(self._explained))
            except OutputError as error:
                raise AttemptError("io", str(error).replace("declared output", "the input")) from None
        for source, target in moves:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.rename(source, target)
        for folder in (entry[0] for entry in self._tree.entries if entry[1] == "d" and self._tree.type == "glob"):
            os.makedirs(trees.place(trees.fixed_part(self._path), folder), exist_ok=True)
        return files.kept

    def _proven(self) -> str:
        """The stamp of what lies there now, whose digests are known from here on; raises AttemptError when it is not the tree."""
        walked = trees.walk(self._path)
        found = [_kind(name, info) for name, _where, info in walked[1]] if walked is not None else []
        if walked is None or found != [entry[:3] for entry in self._tree.entries]:
            raise self._meddled()
        places = {name: (where, info) for name, where, info in walked[1]}
        for name, _where, info in self._before[1] if self._before is not None else ():
            if name in self._stays and _stamp(places[name][1]) != _stamp(info):
                raise self._meddled()
        with self._prober.caching() as cache:
            for name, before, digest in self._made:
                where, info = places[name]
                cache.relinked(where, before, digest, info)
        return trees.signature_walked(walked)


class Keeping:
    """A tree that becomes objects of the store, to be restored from there."""

    there = False

    def __init__(self, layout: Layout, prober: Prober, incoming: Incoming, _request: Mapping[str, Any]) -> None:
        self._prober = prober
        self._incoming = incoming
        self.known: dict[Entry, Entry] = {}
        with prober.caching() as cache:
            self._store = Store(layout, cache)

    def expect(self, tree: trees.Tree, links: Mapping[str, str]) -> None:
        """What is to be kept, and the text of each of its links."""
        self._tree = tree
        self._links = links

    def has(self, entry: Entry) -> bool:
        """Whether the store has the bytes of a file, as far as stamps tell."""
        return self._store.is_whole(entry)

    def finish(self, came: Came) -> dict[str, Any]:
        """Make every file and link an object. Raises Lost, OSError."""
        with self._store.held(), self._prober.caching():
            for entry in self._tree.entries:
                if entry[1] == "l":
                    self._store.put_link(entry, self._links[entry[0]])
                elif entry[1] == "f" and not self._store.is_whole(entry):
                    with contextlib.suppress(FileNotFoundError):
                        self._store.receive(entry, self._incoming.path(entry[3] or ""))
                    if not self._store.is_whole(entry):
                        raise Lost(entry[3])
        for digest in came:
            unlink(self._incoming.path(digest or ""))
        return {"kept": []}


def _stamp(info: os.stat_result) -> tuple[int, int, int]:
    """What would move with a write; the ctime, which a second name of ours moves too, is left out."""
    return info.st_ino, info.st_size, info.st_mtime_ns


def _stamps(walked: tuple[str, list[trees.Found]] | None) -> list[tuple[str, tuple[int, int, int]]]:
    found = walked[1] if walked is not None else []
    return [(name, _stamp(info)) for name, _where, info in found]


def _kind(name: str, info: os.stat_result) -> tuple[str, str, int]:
    """An entry without its bytes."""
    kind = trees.letter(info)
    return name, kind, 1 if kind == "f" and info.st_mode & 0o100 else 0
