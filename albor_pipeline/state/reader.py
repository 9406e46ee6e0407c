"""Reading the journal: its lines in order, where it ends, and everything that is wrong with it. Writes nothing, knows no rows.

A segment `NNNN.jsonl` starts with a header line (count and digest of what came before), then one sealed line a record;
each line names the digest of the one before it. Three things may be wrong:
torn     the end of the last segment is not a whole batch: a power cut before the fsync, nobody was told that it holds
damaged  a line was changed: something that was acknowledged later stands after it
missing  whole lines are gone
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from albor_pipeline.state.disk import Disk
from albor_pipeline.state.lines import EMPTY, Head, unseal

Line = dict[str, Any]
SUFFIX = ".jsonl"
HEADER_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in the journal: the byte after line `head.count`, in segment `segment`; offset 0 is before the header."""

    segment: int = 1
    offset: int = 0
    head: Head = EMPTY


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: `kind` is `damaged` or `missing`."""

    kind: str
    text: str


class Reader:
    """Reads from `start` (None: from the first segment) to the end; after lines() is used up the fields say how it ended."""

    def __init__(self, disk: Disk, folder: Path, start: Mark | None = None) -> None:
        self._disk = disk
        self._folder = folder
        self._start = start
        self.numbers = segments(disk, folder, start.segment if start else 0)
        while self.numbers and _void(disk, folder, self.numbers[-1]):
            self.numbers = self.numbers[:-1]
        self.mark = start or Mark()
        self.based = start is not None
        self.torn_bytes = 0
        self.lineage: str | None = None
        self.pipeline: str | None = None
        self.problems: list[Problem] = []

    def lines(self) -> Iterator[Line]:
        """Every record in order, and each segment's header (it has the key `segment`) before its records."""
        for index, number in enumerate(self.numbers):
            first = self._start is not None and number == self._start.segment
            offset = self._start.offset if self._start and first else 0
            data = self._disk.read(self._folder / segment_name(number), offset) or b""
            following = self.numbers[index + 1 :]
            yield from _Segment(self, number, data, offset, self._limit(following), last=not following).lines()

    def _limit(self, following: tuple[int, ...]) -> int | None:
        """The count at which the next segment goes on: lines after it were never acknowledged (a failed fsync)."""
        if not following:
            return None
        header = read_header(self._disk, self._folder, following[0])
        return None if header is None or header["rebuilt"] else int(header["count"])


class _Segment:
    def __init__(self, reader: Reader, number: int, data: bytes, offset: int, limit: int | None, *, last: bool) -> None:
        self._reader = reader
        self._name = segment_name(number)
        self._number = number
        self._data = data
        self._offset = offset
        self._limit = limit
        self._last = last
        self._at = 0

    def lines(self) -> Iterator[Line]:
        if self._offset == 0:
            header = self._take()
            if header is None or "segment" not in header:
                if self._limit == self._reader.mark.head.count:
                    return
                self._problem("damaged", "its header was changed")
            else:
                self._check_header(header)
                yield header
        self._note(self._reader.mark.head)
        while self._at < len(self._data) and self._reader.mark.head.count != self._limit:
            before = self._at
            line = self._take()
            if not self._follows(line):
                if self._last and line is None and not self._begun_later(before):
                    self._tear(before)
                    return
                line = self._resync(line)
            if line is not None:
                self._note(Head(line["serial"], line["digest"]))
                yield line

    def _take(self) -> Line | None:
        """The next line, or None when it is not whole; moves on in either case."""
        end = self._data.find(b"\n", self._at)
        start, self._at = self._at, end + 1 if end >= 0 else len(self._data)
        return unseal(self._data[start:end]) if end >= 0 else None

    def _note(self, head: Head) -> None:
        self._reader.mark = Mark(self._number, self._offset + self._at, head)

    def _tear(self, at: int) -> None:
        self._reader.torn_bytes = len(self._data) - at
        self._reader.mark = Mark(self._number, self._offset + at, self._reader.mark.head)

    def _check_header(self, header: Line) -> None:
        reader, head = self._reader, Head(header["count"], header["prev"])
        known = reader.mark.head
        reader.lineage, reader.pipeline = header["lineage"], header["pipeline"]
        if reader.based and not header["rebuilt"] and head != known:
            if head.count > known.count:
                self._problem("missing", f"lines {known.count + 1} to {head.count} are gone before it")
            else:
                self._problem("damaged", "it does not continue the segment before it")
        reader.based = True
        reader.mark = Mark(self._number, self._at, head)

    def _follows(self, line: Line | None) -> bool:
        head = self._reader.mark.head
        return line is not None and line.get("serial") == head.count + 1 and line["prev"] == head.digest

    def _begun_later(self, at: int) -> bool:
        """True when the bytes from `at` on are more than one unfinished batch: then something acknowledged was changed."""
        serial = self._reader.mark.head.count + 1
        batches = _batches(self._data[at:])
        return len(batches) > 1 or any(batch > serial for batch in batches)

    def _resync(self, line: Line | None) -> Line | None:
        count = self._reader.mark.head.count
        if line is None and self._at == len(self._data) and not self._data.endswith(b"\n"):
            self._problem("missing", f"line {count + 1} is cut off")
            return None
        if line is None or "serial" not in line:
            self._problem("damaged", f"line {count + 1} was changed")
            return None
        if line["serial"] > count + 1:
            self._problem("missing", f"lines {count + 1} to {line['serial'] - 1} are gone")
        elif line["serial"] == count + 1:
            self._problem("damaged", f"line {count + 1} does not continue the line before it")
        else:
            self._problem("damaged", f"line {line['serial']} stands after line {count}")
            return None
        return line

    def _problem(self, kind: str, text: str) -> None:
        self._reader.problems.append(Problem(kind, f"journal/{self._name}: {text}"))


def segments(disk: Disk, folder: Path, least: int = 0) -> tuple[int, ...]:
    """The numbers of the segments that are there, from `least` on."""
    stems = [name.removesuffix(SUFFIX) for name in disk.names(folder) if name.endswith(SUFFIX)]
    return tuple(sorted(int(stem) for stem in stems if stem.isdigit() and int(stem) >= least))


def segment_name(number: int) -> str:
    """`0001.jsonl`."""
    return f"{number:04d}{SUFFIX}"


def read_header(disk: Disk, folder: Path, number: int) -> Line | None:
    """A segment's first line, or None when it is not whole."""
    data = disk.read(folder / segment_name(number), 0, HEADER_BYTES) or b""
    first, newline, _rest = data.partition(b"\n")
    line = unseal(first) if newline else None
    return line if line is not None and "segment" in line else None


def _void(disk: Disk, folder: Path, number: int) -> bool:
    """True for a segment whose first write was torn: no header, and not two batches after it."""
    if read_header(disk, folder, number) is not None:
        return False
    data = disk.read(folder / segment_name(number)) or b""
    return len(_batches(data)) <= 1


def _batches(data: bytes) -> set[int]:
    """The batches of the whole lines in `data`, each named by the serial of its first line."""
    found = (unseal(line) for line in data.split(b"\n"))
    return {line["batch"] for line in found if line is not None and "batch" in line}
