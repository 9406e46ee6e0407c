"""SIGTERM and SIGINT as a question that a loop asks between its steps; knows no loop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class InterruptedRunError(Exception):
    """A signal asked the run to end; what is done is whole."""


class Asked:
    """Which signal asked the run to end; 0 is none. A second SIGINT is not waited for."""

    number = 0

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        if number == self.number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = self.number or number

    @property
    def name(self) -> str:
        """SIGTERM or SIGINT."""
        return signal.Signals(self.number).name

    def check(self) -> None:
        """InterruptedRunError once a signal has come."""
        if self.number:
            raise InterruptedRunError


@contextmanager
def heard() -> Iterator[Asked]:
    """SIGTERM and SIGINT end the step at hand first; one that this process was started to ignore stays ignored."""
    asked = Asked()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    ours = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in ours:
        signal.signal(number, asked)
    try:
        yield asked
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
