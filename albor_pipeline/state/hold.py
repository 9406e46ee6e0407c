"""Hold: the one writer of a state folder, by flock on an open file. Knows no state; the text in the file is information only."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from albor_pipeline.errors import LockedError


class Hold:
    """A held lock. The kernel ends it with this process, however it ends; children do not inherit it across exec."""

    def __init__(self, path: Path, handle: int) -> None:
        self._path = path
        self._handle: int | None = handle

    def describe(self, since_utc: str, run: str | None) -> None:
        """Write who holds it, for the message of whoever comes second."""
        if self._handle is None:
            return
        text = {
            "run": run,
            "pid": os.getpid(),
            "host": os.uname().nodename,
            "boot_id": _boot_id(),
            "since_utc": since_utc,
        }
        with suppress(OSError):
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, json.dumps(text).encode() + b"\n", 0)

    def lost(self) -> bool:
        """True when the folder was removed or replaced under us: then nothing more may be written."""
        if self._handle is None:
            return True
        mine = os.fstat(self._handle)
        try:
            there = self._path.stat()
        except OSError:
            return True
        return (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino)

    def release(self) -> None:
        """Give it back; idempotent."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def take(path: Path) -> Hold:
    """Take the lock without waiting; LockedError names the holder."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(handle, 4096, 0)
            os.close(handle)
            raise LockedError.of(
                "locked",
                f"{path.parent.name}/ is in use{_holder(text)}",
                "wait for it, or look at it with `albor-pipeline status`, which needs no lock",
            ) from None
        hold = Hold(path, handle)
        if not hold.lost():
            return hold
        hold.release()


def _holder(text: bytes) -> str:
    """` by run 0008 (pid 41822 on lambda, since 14:10:02)`, as much of it as the text tells; the time is local."""
    try:
        told: Any = json.loads(text)
        since = datetime.fromisoformat(told["since_utc"]).astimezone()
        who = f"pid {told['pid']} on {told['host']}, since {since:%H:%M:%S}"
        return f" by run {told['run']} ({who})" if told["run"] else f" by {who}"
    except (ValueError, KeyError, TypeError):
        return " by another process"


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
