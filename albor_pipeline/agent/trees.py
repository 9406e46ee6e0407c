"""A file, folder or glob as a tree with one root digest, compared with what was recorded. Knows no attempts and no wire.

root = BLAKE3 over the entries, sorted by path: type, executable bit, digest of bytes or of link text, relative path.
A single file's root covers its bytes and its executable bit, not its name. The path itself is followed when it is a
link, links inside the tree are not. Listings are kept in .albor/store/trees/<root>, so that a change can be named.
"""

from __future__ import annotations

import json
import os

from albor_pipeline.agent import crew, hashing
from albor_pipeline.agent.layout import Layout, read_bytes, replace_file, to_json, unlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Found = tuple[str, str, os.stat_result]

MAX_CHANGES = 100
MAGIC = frozenset("*?[")
LETTERS = {0o100000: "f", 0o040000: "d", 0o120000: "l"}


class Tree:
    """What was found at a path; `entries` are (path, type, executable, digest or None, bytes)."""

    __slots__ = ("entries", "root", "size_bytes", "type")

    def __init__(self, kind: str, entries: list[tuple[str, str, int, str | None, int]]) -> None:
        self.type = kind
        self.entries = entries
        self.size_bytes = sum([entry[4] for entry in entries])
        lines = ["albor-tree 1 %s\0" % kind]
        lines += ["%s%d %s %s\0" % (what, x, digest or "-", path) for path, what, x, digest, _size in entries]
        self.root = hashing.digest_bytes("".join(lines).encode("utf-8", "surrogateescape"))

    @property
    def files(self) -> int:
        """How many entries are files or links."""
        return len([1 for entry in self.entries if entry[1] != "d"])

    def summary(self) -> dict[str, Any]:
        """What a proof says of an output."""
        return {"root": self.root, "files": self.files, "size_bytes": self.size_bytes}


def walk(path: str) -> tuple[str, list[Found]] | None:
    """(type, [(relative path, absolute path, lstat)]) sorted by path, None where nothing is there. Raises OSError."""
    try:
        info = os.lstat(path)
        kind = letter(info)
        if kind == "l":
            path = os.path.realpath(path)
            info = os.stat(path)
            kind = letter(info)
    except (FileNotFoundError, NotADirectoryError):
        return _walk_glob(path) if MAGIC.intersection(path) else None
    if kind == "d":
        found: list[Found] = []
        _walk_folder(path, "", found)
        return "dir", sorted(found)
    return ("file" if kind == "f" else "other"), [("", path, info)]


def letter(info: os.stat_result) -> str:
    """f, d or l; o for what is none of them."""
    return LETTERS.get(info.st_mode & 0o170000, "o")


def _walk_folder(path: str, prefix: str, found: list[Found]) -> None:
    with os.scandir(path) as entries:
        for entry in entries:
            name = prefix + entry.name
            info = entry.stat(follow_symlinks=False)
            if letter(info) == "d":
                if entry.name == ".albor":
                    continue
                _walk_folder(entry.path, name + "/", found)
            found.append((name, entry.path, info))


def _walk_glob(path: str) -> tuple[str, list[Found]] | None:
    import glob

    base = fixed_part(path) + "/"
    found: dict[str, Found] = {}
    for match in glob.glob(path, recursive=True):
        match = match.rstrip("/")
        name, info = match[len(base) :], os.lstat(match)
        inside: list[Found] = [(name, match, info)]
        if letter(info) == "d":
            _walk_folder(match, name + "/", inside)
        for item in inside:
            found.setdefault(item[0], item)
    return ("glob", sorted(found.values())) if found else None


def base_of(path: str, kind: str) -> str:
    """What the names of the tree at `path`, which may be a glob or a link, are relative to."""
    return fixed_part(path) if kind == "glob" else os.path.realpath(path)


def place(base: str, name: str) -> str:
    """Where an entry of a tree with this base lies; the entry without a name is the base itself."""
    return base + "/" + name if name else base


def shown(path: str, kind: str, name: str) -> str:
    """An entry of the tree at a declared path as a user would type it."""
    base = fixed_part(path) if kind == "glob" else path.rstrip("/")
    return "/".join(part for part in (base, name) if part)


def fixed_part(pattern: str) -> str:
    """The folder that the names of a glob's tree are relative to."""
    parts = pattern.split("/")
    return "/".join(parts[: next(index for index, part in enumerate(parts) if MAGIC.intersection(part))])


def read_tree(path: str, digest: Callable[[str, os.stat_result], str]) -> Tree | None:
    """The tree at a path; `digest(path, lstat)` gives a file's digest (the stat cache's). Raises OSError."""
    found = walk(path)
    return None if found is None else read_walked(found, digest)


def read_walked(found: tuple[str, list[Found]], digest: Callable[[str, os.stat_result], str]) -> Tree:
    """The tree of what walk() found; `digest` is called by several threads at once for big files. Raises OSError."""
    entries: list[tuple[str, str, int, str | None, int]] = []
    digests = _digest_big(found[1], digest)
    for name, where, info in found[1]:
        what = letter(info)
        if what == "f":
            known = digests.get(name) or digest(where, info)
            entries.append((name, what, 1 if info.st_mode & 0o100 else 0, known, info.st_size))
        elif what == "l":
            entries.append((name, what, 0, hashing.digest_bytes(os.fsencode(os.readlink(where))), 0))
        else:
            entries.append((name, what, 0, None, 0))
    return Tree(found[0], entries)


def _digest_big(found: list[Found], digest: Callable[[str, os.stat_result], str]) -> dict[str, str]:
    """The digests of the big files by name, one file a thread."""
    digests: dict[str, str] = {}

    def one(item: Found) -> None:
        digests[item[0]] = digest(item[1], item[2])

    big = [item for item in found if item[2].st_size > hashing.SMALL_BYTES and letter(item[2]) == "f"]
    crew.each(one, big, hashing.default_threads())
    return digests


def signature(path: str) -> str | None:
    """A digest of names, inodes, sizes and stamps, no bytes read: equal means untouched. None where nothing is there."""
    found = walk(path)
    return None if found is None else signature_walked(found)


def signature_walked(found: tuple[str, list[Found]]) -> str:
    """The signature of what walk() found."""
    lines = ["%s %s %s\0" % (letter(info), hashing.stat_key(info), name) for name, _where, info in found[1]]
    return hashing.digest_bytes("".join(lines).encode("utf-8", "surrogateescape"))


def record(layout: Layout, tree: Tree, text: bytes | None = None) -> None:
    """Keep the listing under its root; not made durable, since a reader checks it against the root. `text` is it written out."""
    path = record_path(layout, tree.root)
    if os.path.exists(path):
        return
    body = text or to_json({"version": 1, "type": tree.type, "entries": tree.entries})
    try:
        replace_file(path, body)
    except FileNotFoundError:
        os.makedirs(layout.trees, exist_ok=True)
        replace_file(path, body)


def record_path(layout: Layout, root: str) -> str:
    """Where the listing of a root is, if it is on record."""
    return os.path.join(layout.trees, os.path.basename(root))


def recall(layout: Layout, root: str) -> Tree | None:
    """The listing recorded under a root, None where it is not there or not whole."""
    path = record_path(layout, root)
    data = read_bytes(path, limit=1 << 30)
    if not data:
        return None
    try:
        value = json.loads(data)
        tree = Tree(value["type"], [tuple(entry) for entry in value["entries"]])
    except (ValueError, KeyError, TypeError):
        tree = None
    if tree is None or tree.root != root:
        unlink(path)
        return None
    return tree


def compare(
    layout: Layout, found: tuple[str, list[Found]] | None, root: str, digest: Callable[[str, os.stat_result], str]
) -> dict[str, Any]:
    """What differs between what walk() found and the tree recorded under `root`. Raises OSError."""
    now = None if found is None else read_walked(found, digest)
    same = now is not None and now.root == root
    result: dict[str, Any] = {"same": same, "changes": [], "known": True, "files": 0, "size_bytes": 0, "more": 0}
    if now is not None:
        result.update(files=now.files, size_bytes=now.size_bytes)
        if same:
            record(layout, now)
            return result
    recorded = recall(layout, root)
    if recorded is None:
        what = "deleted" if now is None else "modified"
        seen = None if now is None else now.root[:8]
        result.update(known=False, changes=[{"path": "", "what": what, "recorded": root[:8], "found": seen}])
        return result
    changes = _changes(
        {entry[0]: entry for entry in recorded.entries}, {entry[0]: entry for entry in now.entries} if now else {}
    )
    if len(changes) > MAX_CHANGES:
        changes.sort(key=lambda change: bool(change["what"] == "deleted"))  # so that none with other bytes is left out for one without
    result.update(changes=changes[:MAX_CHANGES], more=max(0, len(changes) - MAX_CHANGES))
    return result


def _changes(old: Mapping[str, tuple[Any, ...]], new: Mapping[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    changes = []
    for path in sorted({*old, *new}):
        before, after = old.get(path), new.get(path)
        if before is not None and after is not None and before[1:4] == after[1:4]:
            continue
        what = "added" if before is None else "deleted" if after is None else "modified"
        mode = before is not None and after is not None and before[1] == after[1] == "f" and before[3] == after[3]
        changes.append({"path": path, "what": what, "recorded": _short(before, mode), "found": _short(after, mode)})
    return changes


def _short(entry: tuple[Any, ...] | None, mode: bool) -> str | None:
    """The beginning of the digest, or what tells it from the other one: `mode` when that is whether it can be run."""
    if entry is None:
        return None
    if mode:
        return "executable" if entry[2] else "not executable"
    return {"d": "folder", "o": "special"}.get(entry[1]) or str(entry[3])[:8]
