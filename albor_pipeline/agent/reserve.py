"""A few blocks of the disk, held while an attempt runs, so that its end can be written when its task filled the disk."""

from __future__ import annotations

import os

from albor_pipeline.agent.layout import unlink

SIZE_BYTES = 1 << 16


class Reserve:
    """The blocks of one attempt folder; a disk that has none to spare gives none, and nothing else changes."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, "reserve")
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, SIZE_BYTES)
            finally:
                os.close(descriptor)
        except OSError:
            return

    def give_back(self) -> bool:
        """Free the blocks; True when the disk had hardly any others."""
        disk = os.statvfs(os.path.dirname(self._path))
        free = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
        unlink(self._path)
        return free * disk.f_frsize < SIZE_BYTES
