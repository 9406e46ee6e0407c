"""Lines: the second connections of a run, one a machine, made when much data first has to go there or come from there. Knows no plan.

One that cannot be made, or breaks, is not missed: what it would have carried goes over the first connection.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from albor_pipeline.transport.client import AgentClient, Message
from albor_pipeline.transport.faults import Unusable

PATIENCE_S = 20.0


@dataclass
class _Line:
    """A connection, what was asked of it first, and until when it has to answer that."""

    client: AgentClient
    asked: int
    limit_s: float
    ready: bool = False


class Lines:
    """`without` says by machine why there is none, or none any more."""

    def __init__(self, start: Callable[[str], AgentClient]) -> None:
        """`start` begins a connection to the machine of a name. It raises Unusable."""
        self._start = start
        self._lines: dict[str, _Line] = {}
        self.without: dict[str, str] = {}

    def has(self, name: str, token: str) -> bool:
        """Whether there is a line to a machine, or is going to be; `token` is that of the lease which the first connection holds."""
        line = self._lines.get(name)
        if line is not None and not line.ready and time.monotonic() > line.limit_s:
            self._drop(name, f"it did not answer in {PATIENCE_S:.0f} s")
        elif line is None and name not in self.without:
            try:
                client = self._start(name)
            except Unusable as error:
                self.without[name] = error.text
            else:
                self._lines[name] = _Line(client, client.queue("lease", token=token), time.monotonic() + PATIENCE_S)
        return name in self._lines

    def ready(self, name: str) -> AgentClient | None:
        """The line to a machine once its agent may do there what ours may."""
        line = self._lines.get(name)
        return line.client if line is not None and line.ready else None

    @property
    def clients(self) -> list[AgentClient]:
        """All of them, to be waited for."""
        return [line.client for line in self._lines.values()]

    def poll(self) -> list[tuple[str, Message]]:
        """What the agents said at the other ends, but for what only this has to know."""
        found: list[tuple[str, Message]] = []
        for name, line in list(self._lines.items()):
            for message in line.client.poll(0):
                if message.kind == "closed":
                    self._drop(name, str(message.body["why"]))
                elif line.ready:
                    found.append((name, message))
                elif message.id == line.asked:
                    self._answered(name, line, message)
        return found

    def _answered(self, name: str, line: _Line, message: Message) -> None:
        if message.error is not None:
            self._drop(name, message.error.message)
        line.ready = message.error is None

    def _drop(self, name: str, why: str) -> None:
        self.close(name)
        self.without[name] = why

    def close(self, name: str) -> None:
        """Hang up, for instance because the machine is gone."""
        line = self._lines.pop(name, None)
        if line is not None:
            line.client.close()

    def close_all(self) -> None:
        """Hang up everywhere."""
        for name in list(self._lines):
            self.close(name)
        self.without.clear()
