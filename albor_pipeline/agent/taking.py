"""Taking a tree from another machine: its listing, a question for what is lacking here, the bytes, and then the tree in one go.

The two ends of the stream speak in turns: a listing comes; what is lacking is asked for by a reply (`wants`, listing.runs()), as
often as that is needed; these bytes come; the last reply says `done`. Where the tree ends up, a target knows (landing.py).
"""

from __future__ import annotations

from albor_pipeline.agent import facts, listing, trees, wire
from albor_pipeline.agent.attempts import AttemptError
from albor_pipeline.agent.incoming import PART, Incoming, Landing
from albor_pipeline.agent.landing import Keeping, Lost, Placing
from albor_pipeline.agent.layout import FULL
from albor_pipeline.agent.listing import LENGTH, ListingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from albor_pipeline.agent.layout import Layout
    from albor_pipeline.agent.listing import Entry
    from albor_pipeline.agent.probe import Prober

ROUNDS = 3
SHOWN = 3


class Inflow:
    """What comes on a stream, in lengths that the receiver knows. Raises AttemptError `short` when it ends before."""

    def __init__(self, parts: Iterator[bytes | memoryview]) -> None:
        self._parts = parts
        self._held = memoryview(b"")

    def pieces(self, size: int) -> Iterator[memoryview]:
        """The next `size` bytes as they come."""
        while size:
            if not self._held:
                part = next(self._parts, None)
                if part is None:
                    raise AttemptError("short", "the transfer broke off")
                self._held = memoryview(part)
            piece, self._held = self._held[:size], self._held[size:]
            size -= len(piece)
            yield piece

    def exactly(self, size: int) -> memoryview:
        """The next `size` bytes at once."""
        found = list(self.pieces(size))
        return found[0] if len(found) == 1 else memoryview(b"".join(found))


class Taker:
    """One tree on its way here."""

    def __init__(
        self, layout: Layout, prober: Prober, request: Mapping[str, Any], parts: Iterator[bytes | memoryview],
        say: Callable[[dict[str, Any]], None], may: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """`say` sends a reply; `may` raises when this is not to be put in place any more."""
        self._layout = layout
        self._prober = prober
        self._request = request
        self._inflow = Inflow(parts)
        self._say = say
        self._may = may
        self._incoming = Incoming(layout)
        self._came: dict[str | None, os.stat_result] = {}
        self._spoiled: set[str | None] = set()
        self._received = 0

    def run(self) -> dict[str, Any]:
        """The last reply. Raises AttemptError `short`, `listing`, `digest`, `no-room`, `io`; OSError."""
        with self._incoming.held():
            try:
                return self._run()
            except ListingError as error:
                raise AttemptError("listing", str(error)) from None
            except OSError as error:
                if error.errno not in FULL:
                    raise
                raise self._no_room(0) from None

    def _run(self) -> dict[str, Any]:
        kind = Keeping if self._request.get("keep") else Placing
        target = kind(self._layout, self._prober, self._incoming, self._request)  # looks at the path while the listing is on its way
        (length,) = LENGTH.unpack(self._inflow.exactly(LENGTH.size))
        if length > listing.MAX_BYTES:
            raise ListingError("what arrived is no listing")
        tree, links, text = listing.unpack(bytes(self._inflow.exactly(length)), self._request["root"], target.known)
        trees.record(self._layout, tree, text)
        target.expect(tree, links)
        files = listing.distinct(tree)
        for _turn in range(ROUNDS):
            wanted = [] if target.there else self._lacking(files, target.has)
            if not wanted or self._fetch(wanted, files, tree):
                self._may()
                try:
                    return {"done": True, **tree.summary(), "received_bytes": self._received, **target.finish(self._came)}
                except Lost as error:
                    self._came.pop(error.digest, None)
        raise AttemptError("io", "files that were here went away while they were put in place, %d times" % ROUNDS)

    def _lacking(self, files: Sequence[Entry], has: Callable[[Entry], bool]) -> list[tuple[int, int]]:
        """(number, byte to go on at) of each file whose bytes are not here."""
        here = self._incoming.here()
        wanted: list[tuple[int, int]] = []
        with self._prober.caching() as cache:
            for number, entry in enumerate(files):
                digest, size = entry[3] or "", entry[4]
                if digest in self._came or has(entry):
                    continue
                info = self._incoming.whole(digest, size, cache) if digest in here else None
                if info is not None:
                    self._came[digest] = info
                else:
                    wanted.append((number, min(here.get(digest + PART, 0), size)))
        return wanted

    def _fetch(self, wanted: Sequence[tuple[int, int]], files: Sequence[Entry], tree: trees.Tree) -> bool:
        """Ask for files and take them; False when some arrived with other bytes, which are asked for once more."""
        asked = [(files[number], offset) for number, offset in wanted]
        size = sum(entry[4] - offset for entry, offset in asked)
        if size > facts.disk_free_bytes(self._incoming.folder):
            raise self._no_room(size)
        self._say({"wants": listing.runs(wanted), "files": len(asked), "size_bytes": size})
        spoiled = [entry for entry, offset in asked if not self._receive(entry, offset)]
        again = [entry for entry in spoiled if entry[3] in self._spoiled]
        if again:
            names = [trees.shown(self._request["path"], tree.type, entry[0]) for entry in again[:SHOWN]]
            more = "" if len(again) <= SHOWN else " and %d more" % (len(again) - SHOWN)
            raise AttemptError("digest", "%s%s arrived twice with other bytes than were recorded" % (", ".join(names), more))
        self._spoiled.update(entry[3] for entry in spoiled)
        return not spoiled

    def _receive(self, entry: Entry, offset: int) -> bool:
        digest, size = entry[3] or "", entry[4] - offset
        self._received += size
        if not offset and size <= wire.MAX_PAYLOAD:
            info = self._incoming.put(digest, self._inflow.exactly(size))
        else:
            file = Landing(self._incoming, digest, offset)
            try:
                for piece in self._inflow.pieces(size):
                    file.write(piece)
            except BaseException:
                file.leave()
                raise
            info = file.finish()
        if info is not None:
            self._came[digest] = info
        return info is not None

    def _no_room(self, size: int) -> AttemptError:
        free = facts.disk_free_bytes(self._incoming.folder)
        wanted = "%d bytes are on their way, " % size if size else ""
        text = "no room for %s: %s%d are free in the working directory; free some, or `store gc`"
        return AttemptError("no-room", text % (self._request["path"], wanted, free))
