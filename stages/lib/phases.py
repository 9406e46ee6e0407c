"""Where the seconds of a step go, phase by phase; on a GPU by the card's own events, so that nothing waits for it."""

from __future__ import annotations

import time
from collections import deque

import torch

NAMES = ("data", "forward", "backward", "optimizer")


class Phases:
    """Seconds by phase since it was made: what was done between two calls belongs to the phase that the second names."""

    def __init__(self, device: torch.device) -> None:
        self._on_card = device.type == "cuda"
        self._seconds = dict.fromkeys(NAMES, 0.0)
        self._marks: deque[tuple[str | None, torch.cuda.Event]] = deque()
        self._last = 0.0

    def begin(self) -> None:
        """What was done up to now belongs to no phase."""
        self._settle()
        self._mark(None)

    def end(self, name: str) -> None:
        """What was done since the last call is of phase `name`."""
        self._mark(name)

    def seconds(self) -> dict[str, float]:
        """Up to now; on a GPU up to the last event that has come to pass."""
        self._settle()
        return dict(self._seconds)

    def _settle(self) -> None:
        while len(self._marks) > 1 and self._marks[1][1].query():
            _, before = self._marks.popleft()
            name, event = self._marks[0]
            if name is not None:
                self._seconds[name] += before.elapsed_time(event) / 1000

    def _mark(self, name: str | None) -> None:
        if self._on_card:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append((name, event))
            return
        now = time.perf_counter()
        if name is not None:
            self._seconds[name] += now - self._last
        self._last = now
