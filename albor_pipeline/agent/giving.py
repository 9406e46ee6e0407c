"""Giving a recorded tree to another machine: its listing, then the bytes that are asked for, all in one stream. Changes nothing here.

Only files that are asked for are looked at: each is taken from the path when what lies there is the recorded one, else from the
store. Nobody has to trust them: the other side digests all of it again.
"""

from __future__ import annotations

import json
import os
import stat

from albor_pipeline.agent import hashing, listing, trees, wire
from albor_pipeline.agent.attempts import AttemptError
from albor_pipeline.agent.layout import read_bytes
from albor_pipeline.agent.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from albor_pipeline.agent.hashing import StatCache
    from albor_pipeline.agent.layout import Layout
    from albor_pipeline.agent.listing import Entry
    from albor_pipeline.agent.probe import Prober

PIECE_BYTES = wire.MAX_PAYLOAD


class Giver:
    """One tree that another machine wants."""

    def __init__(self, layout: Layout, prober: Prober, path: str, root: str) -> None:
        """Raises AttemptError `not-there` when it is neither on record nor at the path."""
        self._layout = layout
        self._prober = prober
        self._name = path
        self._root = root
        self._path = layout.path(path)
        recorded = trees.recall(layout, root)
        self._text = read_bytes(trees.record_path(layout, root), limit=listing.MAX_BYTES) if recorded is not None else None
        self.tree = recorded or self._look()
        self._base = trees.base_of(self._path, self.tree.type)
        self._files = listing.distinct(self.tree)

    def _look(self) -> trees.Tree:
        """What lies at the path, which has to be the tree. Raises AttemptError."""
        with self._prober.caching() as cache:
            found = trees.read_tree(self._path, cache.digest)
        if found is not None and found.root == self._root:
            return found
        seen = "is not there"
        if found is not None:
            seen = "is not as it was recorded (blake3:%s, found blake3:%s)" % (self._root[:8], found.root[:8])
        raise AttemptError("not-there", "%s %s, and the store does not have it" % (self._name, seen))

    def listing(self) -> bytes:
        """The listing as it travels. Raises AttemptError, OSError."""
        odd = [entry for entry in self.tree.entries if entry[1] == "o"]
        if odd:
            raise AttemptError("io", "%s is a device, a socket or a pipe" % self._shown(odd[0]))
        links = [entry for entry in self.tree.entries if entry[1] == "l"]
        return listing.pack(self.tree, {entry[0]: self._link_text(entry) for entry in links}, self._text)

    def _link_text(self, entry: Entry) -> str:
        try:
            text = os.fsencode(os.readlink(trees.place(self._base, entry[0])))
        except OSError:
            text = b""
        if hashing.digest_bytes(text) != entry[3]:
            with self._prober.caching() as cache:
                text = read_bytes(Store(self._layout, cache).object_path(entry)) or b""
        if hashing.digest_bytes(text) != entry[3]:
            raise self._gone()
        return os.fsdecode(text)

    def serve(self, asked: Iterable[bytes | memoryview], write: Callable[[bytes], None]) -> None:
        """Answer each line of `asked` (runs of numbers, listing.runs()) with the bytes of these files. Raises AttemptError, OSError."""
        for line in _lines(asked):
            wanted = listing.each_of([tuple(want) for want in json.loads(line)], self._files)
            outbox = _Outbox(write)
            for (entry, offset), place in zip(wanted, self._places([entry for entry, _offset in wanted])):  # noqa: B905 (Python 3.9)
                self._send(entry, place, offset, outbox)
            outbox.flush()

    def _places(self, entries: Sequence[Entry]) -> list[str]:
        """Where the bytes of these files are, as far as stamps tell. Raises AttemptError."""
        with self._prober.caching() as cache:
            store = Store(self._layout, cache)
            found = [self._place(entry, store, cache) for entry in entries]
        if "" in found:
            raise self._gone()
        return found

    def _place(self, entry: Entry, store: Store, cache: StatCache) -> str:
        path = trees.place(self._base, entry[0])
        try:
            info = os.lstat(path)
            if stat.S_ISREG(info.st_mode) and info.st_size == entry[4] and cache.digest(path, info) == entry[3]:
                return path
        except OSError:
            pass
        return store.object_path(entry) if store.is_whole(entry) else ""

    def _gone(self) -> AttemptError:
        """What is said when something of the tree is nowhere any more."""
        try:
            self._look()
        except AttemptError as error:
            return error
        return AttemptError("not-there", "%s was changed by someone else while it was read" % self._name)

    def _send(self, entry: Entry, path: str, offset: int, outbox: _Outbox) -> None:
        left = entry[4] - offset
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


def _lines(parts: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    held = b""
    for part in parts:
        *whole, held = (held + part).split(b"\n")
        yield from whole
