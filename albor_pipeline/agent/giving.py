"""Giving a recorded tree to another machine: its listing, then the bytes that are asked for, all in one stream. Changes nothing here.

The bytes are taken from the path when what lies there is the recorded tree, else from the store. Nobody has to trust them: the
other side digests all of it again.
"""

from __future__ import annotations

import json
import os

from albor_pipeline.agent import listing, trees, wire
from albor_pipeline.agent.attempts import AttemptError
from albor_pipeline.agent.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from albor_pipeline.agent.layout import Layout
    from albor_pipeline.agent.listing import Entry
    from albor_pipeline.agent.probe import Prober

PIECE_BYTES = wire.MAX_PAYLOAD


class Giver:
    """One tree that another machine wants."""

    def __init__(self, layout: Layout, prober: Prober, path: str, root: str) -> None:
        self._layout = layout
        self._name = path
        self._path = layout.path(path)
        self.tree, self._where = self._find(prober, root)
        self._files = listing.distinct(self.tree)

    def _find(self, prober: Prober, root: str) -> tuple[trees.Tree, Callable[[Entry], str]]:
        with prober.caching() as cache:
            walked = trees.walk(self._path)
            found = trees.read_walked(walked, cache.digest) if walked is not None else None
            if found is not None and found.root == root:
                base = trees.base_of(self._path, found.type)
                return found, lambda entry: trees.place(base, entry[0])
            store = Store(self._layout, cache)
            kept = trees.recall(self._layout, root)
            if kept is not None and not store.missing(kept):
                return kept, store.object_path
        seen = "is not there" if found is None else "is not as it was recorded (blake3:%s, found blake3:%s)" % (root[:8], found.root[:8])
        raise AttemptError("not-there", "%s %s, and the store does not have it" % (self._name, seen))

    def listing(self) -> bytes:
        """The listing as it travels. Raises AttemptError, OSError."""
        links: dict[str, str] = {}
        for entry in self.tree.entries:
            if entry[1] == "o":
                raise AttemptError("io", "%s is a device, a socket or a pipe" % self._shown(entry))
            if entry[1] == "l":
                links[entry[0]] = self._link_text(entry)
        return listing.pack(self.tree, links)

    def _link_text(self, entry: Entry) -> str:
        place = self._where(entry)
        if os.path.islink(place):
            return os.readlink(place)
        with open(place, "rb") as file:
            return os.fsdecode(file.read())

    def serve(self, asked: Iterable[bytes], write: Callable[[bytes], None]) -> None:
        """Answer each line of `asked` (runs of numbers, listing.runs()) with the bytes of these files. Raises AttemptError, OSError."""
        for line in _lines(asked):
            outbox = _Outbox(write)
            for entry, offset in listing.each_of([tuple(want) for want in json.loads(line)], self._files):
                self._send(entry, offset, outbox)
            outbox.flush()

    def _send(self, entry: Entry, offset: int, outbox: _Outbox) -> None:
        path, left = self._where(entry), entry[4] - offset
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if offset:
                os.lseek(descriptor, offset, os.SEEK_SET)
            while left:
                part = os.read(descriptor, min(left, PIECE_BYTES))
                if not part:
                    raise AttemptError("not-there", "%s became shorter while it was sent" % self._shown(entry))
                outbox.add(part)
                left -= len(part)
        finally:
            os.close(descriptor)

    def _shown(self, entry: Entry) -> str:
        return trees.shown(self._name, self.tree.type, entry[0])


class _Outbox:
    """Small parts become pieces as large as a frame takes."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._held = bytearray()

    def add(self, part: bytes) -> None:
        if not self._held and len(part) == PIECE_BYTES:
            self._write(part)
            return
        self._held += part
        if len(self._held) >= PIECE_BYTES:
            self._write(bytes(self._held[:PIECE_BYTES]))
            del self._held[:PIECE_BYTES]

    def flush(self) -> None:
        if self._held:
            self._write(bytes(self._held))
            self._held.clear()


def _lines(parts: Iterable[bytes]) -> Iterator[bytes]:
    held = b""
    for part in parts:
        *whole, held = (held + part).split(b"\n")
        yield from whole
