"""The listing of a tree as it travels: its entries, the text of its links, and how both ends count its files. Reads no file and no wire.

What arrives is proven by the tree's root, and no name in it can lead out of the tree.
"""

from __future__ import annotations

import json
import os
import struct
import zlib

from albor_pipeline.agent import hashing
from albor_pipeline.agent.layout import to_json
from albor_pipeline.agent.trees import Tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    Entry = tuple[str, str, int, "str | None", int]
    Want = tuple[int, int, int]

LENGTH = struct.Struct(">Q")
MAX_BYTES = 1 << 30
KINDS = ("file", "dir", "glob")
ELSEWHERE = frozenset(("", ".", "..", ".albor"))


class ListingError(Exception):
    """What arrived is not the listing of the tree that was asked for."""


def pack(tree: Tree, links: Mapping[str, str], text: bytes | None = None) -> bytes:
    """A listing with its length before it; `links` holds the text of each link by the name of its entry.

    `text` is how a tree without links is recorded, which spares writing it out once more.
    """
    if links or text is None:
        text = to_json({"version": 1, "type": tree.type, "entries": tree.entries, "links": links})
    body = zlib.compress(text, 1)
    return LENGTH.pack(len(body)) + body


def unpack(body: bytes, root: str, known: Mapping[Entry, Entry] | None = None) -> tuple[Tree, dict[str, str], bytes]:
    """The tree of what pack() made, without the length, its links, and the text, which may be recorded. Raises ListingError.

    It is exactly that of `root`, or an error. `known` are entries of which the same was proven before.
    """
    known = known or {}
    reader = zlib.decompressobj()
    try:
        text = reader.decompress(body, MAX_BYTES)
        value = json.loads(text)
        tree = Tree(value["type"], [known.get(entry) or _entry(*entry) for entry in map(tuple, value["entries"])])
        links = {str(name): str(target) for name, target in value.get("links", {}).items()}
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError):
        raise ListingError("what arrived is no listing") from None
    if tree.root != root or tree.type not in KINDS:
        raise ListingError("a listing arrived that is not the recorded one")
    _check_folders(tree)
    _check(tree.type, [entry for entry in tree.entries if entry not in known], links)
    return tree, links, text


def _entry(name: object, what: object, x: Any, digest: str | None, size: Any) -> Entry:
    return str(name), str(what), int(x), digest, int(size)


def _check_folders(tree: Tree) -> None:
    """Raise ListingError when something lies below what is no folder."""
    above: dict[str, str] = {}
    for entry in tree.entries:
        name = entry[0].rpartition("/")[0]
        while name and name not in above:
            above[name] = entry[0]
            name = name.rpartition("/")[0]
    for entry in tree.entries:
        if entry[1] != "d" and entry[0] in above:
            raise ListingError("the listing names %r, which does not lie in it" % above[entry[0]])


def _check(kind: str, entries: Sequence[Entry], links: Mapping[str, str]) -> None:
    empty = hashing.digest_bytes(b"")
    for name, what, _x, digest, size in entries:
        if not _stays_inside(name, kind):
            raise ListingError("the listing names %r, which does not lie in it" % name)
        if what == "l":
            if hashing.digest_bytes(os.fsencode(links.get(name, ""))) != digest:
                raise ListingError("the text of the link %r is not the recorded one" % name)
        elif what == "f":
            if not (isinstance(digest, str) and len(digest) == hashing.DIGEST_CHARS and digest.isalnum()) or size < 0:
                raise ListingError("the digest of %r is none" % name)
            if not size and digest != empty:
                raise ListingError("%r is not empty, and is said to be" % name)
        elif what != "d":
            raise ListingError("%r is a device, a socket or a pipe" % name)


def _stays_inside(name: str, kind: str) -> bool:
    """True when no word of a name leads elsewhere."""
    if kind == "file":
        return name == ""
    return "\0" not in name and ELSEWHERE.isdisjoint(name.split("/"))


def distinct(tree: Tree) -> list[Entry]:
    """The files whose bytes have to be somewhere: each digest once, in the order of the listing, empty ones not at all."""
    found: dict[str | None, Entry] = {}
    for entry in tree.entries:
        if entry[1] == "f" and entry[4]:
            found.setdefault(entry[3], entry)
    return list(found.values())


def runs(wanted: Sequence[tuple[int, int]]) -> list[Want]:
    """(number, byte to begin at) of each wanted file as runs: first, how many, byte to begin at, which only a run of one may have."""
    found: list[Want] = []
    for number, offset in wanted:
        if found and not offset and not found[-1][2] and number == found[-1][0] + found[-1][1]:
            found[-1] = (found[-1][0], found[-1][1] + 1, 0)
        else:
            found.append((number, 1, offset))
    return found


def each_of(wanted: Sequence[Want], files: Sequence[Entry]) -> list[tuple[Entry, int]]:
    """What runs() said, written out: (entry, byte to begin at). Raises ListingError for numbers that are not in the tree."""
    found: list[tuple[Entry, int]] = []
    for first, count, offset in wanted:
        inside = first >= 0 and count > 0 and first + count <= len(files) and (count == 1 or not offset)
        if not inside or not 0 <= offset <= files[first][4]:
            raise ListingError("what is wanted is not in the tree")
        found += [(entry, offset) for entry in files[first : first + count]]
    return found
