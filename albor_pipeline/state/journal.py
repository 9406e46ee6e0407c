"""Journal: the append-only, hash-chained record of every transition; one write and one fsync for a batch. Knows no rows.

After a failed write or fsync the open file is never trusted again: the kernel may have dropped the bytes and yet call
them clean. Then the reserve file gives its megabyte back, a stop record goes into a new segment (whose header says where
the acknowledged lines end), and every later append is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from albor_pipeline.errors import StateError
from albor_pipeline.state.disk import Disk, explain, way_out
from albor_pipeline.state.lines import Head, seal
from albor_pipeline.state.reader import Mark, segment_name

SEAL_BYTES = 64 << 20
RESERVE_BYTES = 1 << 20

Clock = Callable[[], str]


class JournalBroken(StateError):
    """The journal could not be made durable: start nothing more, leave attempts alive, end."""


class Journal:
    """The one writer; `mark` says where the next line belongs, `torn_bytes` how much is to be cut there first."""

    def __init__(self, disk: Disk, root: Path, clock: Clock, mark: Mark, torn_bytes: int, *, seal_bytes: int) -> None:
        self._disk = disk
        self._folder = root / "journal"
        self._reserve = root / ".reserve"
        self._clock = clock
        self._torn_bytes = torn_bytes
        self._seal_bytes = seal_bytes
        self._handle: int | None = None
        self.mark = mark
        self.broken = False
        self.lineage = ""
        self.pipeline = ""
        self.rebuilt = False

    @property
    def head(self) -> Head:
        return self.mark.head

    def append(self, bodies: Sequence[Mapping[str, Any]]) -> tuple[Head, ...]:
        """Make all of them durable with one fsync and return the head after each; raises JournalBroken, then and ever after."""
        if self.broken:
            raise JournalBroken.of("journal-broken", "the journal failed earlier in this run; nothing more is recorded")
        try:
            self._prepare()
            return self._append(bodies)
        except OSError as error:
            raise self._break(error) from error
        except BaseException:
            self.close()
            self._torn_bytes = 1
            raise

    def close(self) -> None:
        """Give the file back; idempotent."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            self._disk.close(handle)

    def _prepare(self) -> None:
        """An open segment with room, cut behind its last whole line."""
        if self.mark.offset >= self._seal_bytes:
            self.close()
            self.mark = Mark(self.mark.segment + 1, 0, self.mark.head)
        if self._handle is None:
            self._handle = self._disk.open(self._folder / segment_name(self.mark.segment))
            if self._torn_bytes or self.mark.offset == 0:
                self._disk.truncate(self._handle, self.mark.offset)
            if self._torn_bytes:
                self._disk.fsync(self._handle)
                self._torn_bytes = 0

    def _append(self, bodies: Sequence[Mapping[str, Any]]) -> tuple[Head, ...]:
        assert self._handle is not None
        starts = self.mark.offset == 0
        lines, heads = [self._header()] if starts else [], []
        head, batch = self.mark.head, self.mark.head.count + 1
        for body in bodies:
            serial = head.count + 1
            line, digest = seal({"serial": serial, "batch": batch, **body, "prev": head.digest})
            head = Head(serial, digest)
            lines.append(line)
            heads.append(head)
        data = b"".join(lines)
        self._disk.write(self._handle, data)
        self._disk.fsync(self._handle)
        if starts:
            self._disk.fsync_dir(self._folder)
        self.mark = Mark(self.mark.segment, self.mark.offset + len(data), head)
        return tuple(heads)

    def _header(self) -> bytes:
        header = {
            "segment": self.mark.segment,
            "format": 1,
            "lineage": self.lineage,
            "pipeline": self.pipeline,
            "rebuilt": self.rebuilt,
            "count": self.mark.head.count,
            "prev": self.mark.head.digest,
        }
        self.rebuilt = False
        return seal(header)[0]

    def _break(self, error: OSError) -> JournalBroken:
        """Never use the file again; leave a stop record in a new segment when the disk still takes one."""
        self.broken = True
        with suppress(OSError):
            self.close()
        with suppress(OSError):
            self._disk.unlink(self._reserve)
        recorded = True
        try:
            self.mark = Mark(self.mark.segment + 1, 0, self.mark.head)
            self._prepare()
            self._append([{"at_utc": self._clock(), "what": "stopped", "note": f"journal: {explain(error)}"}])
        except OSError:
            recorded = False
        with suppress(OSError):
            self.close()
        broken = JournalBroken.of(
            "journal-broken",
            f"the journal could not be written: {explain(error)}",
            "nothing more is started; running attempts go on, and the next run takes their results",
            *way_out(error),
            *(() if recorded else ("the stop itself could not be recorded either",)),
        )
        assert isinstance(broken, JournalBroken)
        return broken
