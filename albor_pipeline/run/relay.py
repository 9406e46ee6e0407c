"""Relay: one tree from the agent of one machine to that of another, through this process and past its disk. Knows no plan.

The source's stream is passed on as it comes. What the source may send is what the target has taken, so that no more than a window
lies here, however slow the target. The target's questions go back to the source; its last reply ends the transfer.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from albor_pipeline.transport.client import AgentClient, AgentError, Message


@dataclass(frozen=True)
class Errand:
    """What is to be brought where: the tree with this root, from a path of one machine to a path, or the store (`keep`), of another.

    `size_bytes` is what all of it comes to, where that is known.
    """

    source: str
    source_path: str
    target: str
    path: str
    root: str
    resource: str
    run: str
    keep: bool = False
    size_bytes: int = 0

    @property
    def place(self) -> tuple[str, str, str, bool]:
        """What two steps that need the same have in common."""
        return self.target, self.path, self.root, self.keep

    @property
    def taking(self) -> dict[str, Any]:
        """What the target's `take` is asked."""
        return {"path": self.path, "root": self.root, "resource": self.resource, "run": self.run, "keep": self.keep}


@dataclass
class Sent:
    """How far a transfer is: what the target asked for, and what it was passed of it."""

    files: int = 0
    size_bytes: int = 0
    passed_bytes: int = 0
    began_s: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began_s


class Transfer:
    """One under way, whichever way; `reply` is the target's last word, or `error` what went wrong and `culprit` on which machine."""

    def __init__(self, errand: Errand) -> None:
        self.errand = errand
        self.sent = Sent()
        self.asked = False
        self.reply: Mapping[str, Any] | None = None
        self.error: AgentError | None = None
        self.culprit = ""
        self._stopped = False

    @property
    def over(self) -> bool:
        """True once there is a last word or an error."""
        return self.reply is not None or self.error is not None


class Relay(Transfer):
    """A transfer through this process."""

    def __init__(self, errand: Errand, source: AgentClient, target: AgentClient) -> None:
        super().__init__(errand)
        self._source, self._target = source, target
        self._give = source.queue("give", path=errand.source_path, root=errand.root)
        source.hold(self._give)
        self._take = target.queue("take", **errand.taking)
        self._passed = 0
        self._granted = 0
        self._listing = 0

    @property
    def ends(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """The machines and requests whose messages are meant for this."""
        return (self.errand.source, self._give), (self.errand.target, self._take)

    @property
    def is_cut(self) -> bool:
        """True when a connection that this goes over is no more."""
        return self._source.is_closed or self._target.is_closed

    def take(self, machine: str, message: Message) -> None:
        """One message of one end. A reply of the source only tells that it has the tree."""
        if self.over:
            return
        if message.error is not None:
            self.error, self.culprit = message.error, machine
        elif message.id == self._give and machine == self.errand.source:
            if message.kind == "data":
                self._target.feed(self._take, message.data)
                self._passed += len(message.data)
        elif message.body.get("done"):
            self.reply = message.body
        else:
            self._ask(message.body)

    def _ask(self, body: Mapping[str, Any]) -> None:
        """The target lacks files. What was passed on before its first question is the listing; what it asks for again came spoiled."""
        if not self.asked:
            self.asked = True
            self._listing = self._passed
            self.sent.files = int(body["files"])
        self.sent.size_bytes += int(body["size_bytes"])
        self._source.feed(self._give, json.dumps(body["wants"]).encode() + b"\n")

    def pump(self) -> None:
        """Let the source send what the target has taken meanwhile."""
        gone = self._passed - self._target.waiting(self._take)
        if gone > self._granted:
            self._source.taken(self._give, gone - self._granted)
            self._granted = gone
        if self.asked:
            self.sent.passed_bytes = max(0, gone - self._listing)

    def stop(self, lost: str = "") -> None:
        """Leave neither end waiting for the other; `lost` is one that does not answer any more."""
        if self._stopped:
            return
        self._stopped = True
        if lost != self.errand.target:
            self._target.finish(self._take)
        if lost != self.errand.source:
            self._source.finish(self._give)
            self._source.release(self._give)
