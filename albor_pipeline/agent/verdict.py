"""How an attempt ended: exit class, and one sentence of what was seen. Decides from what it is given; starts nothing."""

from __future__ import annotations

import os
import re
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OK, ERROR, TIMEOUT, KILLED, CANCELLED, OOM, GPU, HANG = (
    "ok",
    "error",
    "timeout",
    "killed",
    "cancelled",
    "oom",
    "gpu",
    "hang",
)
TAIL_BYTES = 16384
SHELL_SAYS_KILLED = 128 + signal.SIGKILL
OOM_AT_WORK = "the kernel's out-of-memory killer was at work"
_OOM = re.compile(
    rb"CUDA out of memory|torch\.(?:cuda\.)?OutOfMemoryError|^MemoryError\b|Cannot allocate memory", re.MULTILINE
)
_GPU = re.compile(
    rb"NVRM: Xid|Xid \(PCI|uncorrectable ECC|fallen off the bus|CUDA error: (?:an illegal memory access|unspecified launch"
    rb" failure|unknown error|hardware)|NCCL (?:communicator was aborted|error: unhandled cuda)"
)


class Verdict:
    """A class, the code or signal behind it, and what was seen."""

    __slots__ = ("code", "detail", "exit_class", "signal")

    def __init__(self, exit_class: str, detail: str, code: int | None = None, number: int | None = None) -> None:
        self.exit_class = exit_class
        self.detail = detail
        self.code = code
        self.signal = number

    def body(self) -> dict[str, Any]:
        """The part of an exit object that this decides."""
        return {"class": self.exit_class, "code": self.code, "signal": self.signal, "detail": self.detail}


def oom_kills() -> int:
    """How often the kernel's out-of-memory killer struck since boot, -1 where it does not say."""
    try:
        with open("/proc/vmstat", "rb", buffering=0) as file:
            data = file.read(65536)
        at = data.index(b"\noom_kill ")
        return int(data[at + 10 :].split(b"\n", 1)[0])
    except (OSError, ValueError):
        return -1


def _struck(oom_before: int) -> bool:
    return oom_before >= 0 and oom_kills() > oom_before


def of_status(status: int, log: str, oom_before: int, uses_gpu: bool) -> Verdict:
    """The verdict on a wait status that nobody asked for."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number == signal.SIGKILL and _struck(oom_before):
            return Verdict(OOM, "killed while %s" % OOM_AT_WORK, None, number)
        return Verdict(KILLED, "killed by %s" % _name(number), None, number)
    code = os.WEXITSTATUS(status)
    if code == SHELL_SAYS_KILLED and _struck(oom_before):
        return Verdict(OOM, "exit %d, killed while %s" % (code, OOM_AT_WORK), code)
    if code == 0:
        return Verdict(OK, "", 0)
    tail = read_tail(log)
    seen = _OOM.search(tail)
    if seen:
        return Verdict(OOM, "exit %d, out of memory: %s" % (code, _line(tail, seen.start())), code)
    seen = _GPU.search(tail) if uses_gpu else None
    if seen:
        return Verdict(GPU, "exit %d, the GPU failed: %s" % (code, _line(tail, seen.start())), code)
    return Verdict(ERROR, "exit %d" % code, code)


def read_tail(path: str) -> bytes:
    """The last bytes of a log, empty where there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return file.read()
    except OSError:
        return b""


def _line(tail: bytes, at: int) -> str:
    begin = tail.rfind(b"\n", 0, at) + 1
    return tail[begin:].split(b"\n", 1)[0][:200].decode("utf-8", "replace").strip()


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal %d" % number
