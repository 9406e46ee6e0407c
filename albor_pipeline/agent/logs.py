"""A task's log: capped by punching holes so that offsets stay valid, read over the holes. Knows no attempts and no wire.

Beside it `log.times` says how long the log was when, `SECONDS BYTES` a line, so that it can be read from a time on.
"""

from __future__ import annotations

import errno
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

HEAD_BYTES = 1 << 20
TAIL_BYTES = 256 << 20
STEP_BYTES = 16 << 20
MARK_S = 10
PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01


def punch(descriptor: int, start: int, size_bytes: int) -> bool:
    """Give a range of a file back to the disk; its length stays. False where the file system cannot."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    offsets = (ctypes.c_int64(start), ctypes.c_int64(size_bytes))
    return int(libc.fallocate(ctypes.c_int(descriptor), ctypes.c_int(PUNCH_HOLE_KEEP_SIZE), *offsets)) == 0


class Cap:
    """Keeps the first 1 MiB and at least the last 256 MiB of a log that its writer goes on appending to."""

    def __init__(self, descriptor: int, head: int = HEAD_BYTES, tail: int = TAIL_BYTES, step: int = STEP_BYTES) -> None:
        self._descriptor = descriptor
        self._done = head
        self._tail = tail
        self._step = step

    def apply(self) -> None:
        """Punch what has become old; cheap when nothing has."""
        end = os.fstat(self._descriptor).st_size - self._tail
        if end - self._done >= self._step:
            end -= end % 4096
            if punch(self._descriptor, self._done, end - self._done):
                self._done = end


class Times:
    """Writes down how long a log is, every ten seconds in which it grew; by the wall clock of its machine."""

    def __init__(self, descriptor: int, path: str, clock: Callable[[], float] = time.time) -> None:
        self._descriptor = descriptor
        self._path = path + ".times"
        self._clock = clock
        self._next = 0.0
        self._size = 0

    def mark(self) -> None:
        """Add a line where one is due; a disk that takes none costs only the choice of a time."""
        size, now = os.fstat(self._descriptor).st_size, self._clock()
        if size == self._size or now < self._next:
            return
        try:
            with open(self._path, "a") as file:
                file.write("%d %d\n" % (now, size))
        except OSError:
            pass
        self._size, self._next = size, now + MARK_S


def offset_at(path: str, before_s: float) -> int:
    """How long a log was at a time of the wall clock, as last written down before it; 0 where nothing was."""
    found = 0
    try:
        last = os.stat(path)
        if last.st_mtime <= before_s:
            return last.st_size
        with open(path + ".times") as file:
            for line in file:
                when, _space, size = line.partition(" ")
                if not (when.isdigit() and size.endswith("\n") and int(when) <= before_s):
                    break
                found = int(size)
    except (OSError, ValueError):
        return found
    return found


def read_from(descriptor: int, offset: int, limit: int) -> tuple[int, bytes]:
    """(where the bytes begin, bytes): from `offset` on, or from the end of the hole it lies in; empty at the end."""
    try:
        begin = os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            begin = offset
        else:
            return max(offset, os.fstat(descriptor).st_size), b""
    try:
        hole = os.lseek(descriptor, begin, os.SEEK_HOLE)
    except OSError:
        hole = begin + limit
    return begin, os.pread(descriptor, max(0, min(limit, hole - begin)), begin)
