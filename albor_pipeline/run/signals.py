"""Ctrl-C: once stops starting, twice cancels. Sets flags only; the loop reads them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType

from albor_pipeline.run.limits import Leave


class Interrupts:
    """While entered, SIGINT and SIGTERM are counted; `told` is called at each with what it means."""

    def __init__(self, told: Callable[[Leave], None]) -> None:
        self._told = told
        self._count = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def leave(self) -> Leave:
        """What the user wants by now."""
        return Leave(min(self._count, Leave.CANCEL.value))

    def _take(self, number: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._count <= Leave.CANCEL.value:
            self._told(self.leave())
