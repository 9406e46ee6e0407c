"""Direct: one tree from a machine to another past this process, which only says where to, listens, and can end it. Knows no plan.

Has the face of a Relay. The source's agent reaches the target's by itself; its word that there is no way (`no_way`) is no fault of either
end, and the errand goes on as a Relay, at the byte.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from albor_pipeline.agent.reaching import NO_WAY
from albor_pipeline.run.relay import Errand, Transfer
from albor_pipeline.transport.client import AgentClient, AgentError, Message

SIGN_S = 5.0  # how often the source hears that this is still wanted; it stops without that


class Direct(Transfer):
    """A transfer past this process."""

    def __init__(self, errand: Errand, source: AgentClient, to: Mapping[str, Any], token: str) -> None:
        """`to` is how the source reaches the target, `token` that of the lease which this controller holds there."""
        super().__init__(errand)
        self._source = source
        self._number = source.queue("send", path=errand.source_path, root=errand.root, to=to, token=token, take=errand.taking)
        self._signed_s = time.monotonic()

    @property
    def ends(self) -> tuple[tuple[str, int]]:
        """The machine and the request whose messages are meant for this."""
        return ((self.errand.source, self._number),)

    @property
    def is_cut(self) -> bool:
        """True when the connection to the source is no more."""
        return self._source.is_closed

    @property
    def no_way(self) -> str:
        """Why the source does not get through to the target, or not any more; empty while it does."""
        return self.error.message if self.error is not None and self.error.code == NO_WAY else ""

    def take(self, _machine: str, message: Message) -> None:
        """One message of the source."""
        body = message.body
        if self.over or message.kind != "reply":
            return
        if message.error is not None:
            self.error, self.culprit = message.error, self.errand.source
        elif "refused" in body:
            self.error, self.culprit = AgentError(**body["refused"]), self.errand.target
        elif body.get("done"):
            self.reply, self.sent.passed_bytes = body, self.sent.size_bytes
        elif "passed_bytes" in body:
            self.sent.passed_bytes = int(body["passed_bytes"])
        else:
            self.sent.files = self.sent.files if self.asked else int(body["files"])
            self.sent.size_bytes += int(body["size_bytes"])
            self.asked = True

    def pump(self) -> None:
        """Tell the source, now and then, that somebody still wants it."""
        if time.monotonic() - self._signed_s >= SIGN_S:
            self._signed_s = time.monotonic()
            self._source.feed(self._number, b"\n")

    def stop(self, lost: str = "") -> None:
        """Leave nobody at work on it; `lost` is a machine that does not answer any more."""
        if not self._stopped and lost != self.errand.source:
            self._source.finish(self._number)
        self._stopped = True
