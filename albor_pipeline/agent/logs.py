"""A task's log: capped by punching holes so that offsets stay valid, read over the holes. Knows no attempts and no wire."""

from __future__ import annotations

import errno
import os

HEAD_BYTES = 1 << 20
TAIL_BYTES = 256 << 20
STEP_BYTES = 16 << 20
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
