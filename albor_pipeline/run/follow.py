"""Following one attempt from outside a run: its log as it grows, its end, its cancellation. Journals nothing."""

from __future__ import annotations

import codecs
import time
from collections.abc import Callable
from typing import Any

from albor_pipeline.errors import AlborError
from albor_pipeline.model.attempt import Attempt, Liveness
from albor_pipeline.model.resource import Key
from albor_pipeline.run.attempts import attempt_of
from albor_pipeline.run.session import Session
from albor_pipeline.transport.client import AgentError

PAUSE_S = 0.2
CHUNK_BYTES = 1 << 18
CANCEL_LIMIT_S = 60.0


def newest(session: Session, key: Key, number: int | None) -> Attempt:
    """The newest attempt of a task (or the one asked for); raises AlborError when there is none, UnreachableError."""
    session.connect([key])
    found = [attempt_of(raw) for raw in session.fleet.require(key.machine).hello["attempts"]]
    mine = [attempt for attempt in found if attempt.resource == key.resource and number in (None, attempt.number)]
    if not mine:
        which = f"no attempt {number}" if number is not None else "no attempt"
        raise AlborError.of(
            "no-attempt", f"{which} of `{key.resource}` is on {key.machine}", "what was kept of its logs is in state/runs/"
        )
    return max(mine, key=lambda attempt: attempt.number)


def kept_log(session: Session, key: Key) -> str:
    """What something that is no task printed when it failed last, as it was kept; raises AlborError when nothing was."""
    entry = session.state.entries.get(key)
    run = entry.current.run if entry is not None and entry.current is not None else None
    try:
        text = session.folder.log_path(run, key).read_text() if run is not None else ""
    except OSError:
        text = ""
    if not text:
        note = "what is no task keeps only what it printed when it failed, until it is converged"
        raise AlborError.of("no-log", f"no log of `{key.resource}` on {key.machine} was kept", note)
    return session.vault.mask(text)


def kept_hook_log(session: Session, name: str) -> str:
    """What `policy.NAME` or `policy.notify.NAME` printed when it failed last; raises AlborError when nothing was kept."""
    paths = session.folder.hook_log_path("*", name.rpartition(".")[2])
    newest = max(session.folder.root.glob(str(paths.relative_to(session.folder.root))), default=None)
    if newest is None:
        raise AlborError.of("no-log", f"no log of `{name}` was kept", "only what a hook printed when it failed is kept")
    return session.vault.mask(newest.read_text())


class Follower:
    """One attempt on one machine."""

    def __init__(self, session: Session, key: Key, number: int) -> None:
        self._agent = session.fleet.agents[key.machine]
        self._vault = session.vault
        self._key = key
        self._number = number

    def look(self) -> Attempt:
        """The attempt as it is now."""
        found = self._agent.request("attempts", resource=self._key.resource, number=self._number, any_lineage=True)["attempts"]
        if found:
            return attempt_of(found[0])
        raise AlborError.of("no-attempt", f"attempt {self._number} of `{self._key.resource}` was collected")

    def print_log(self, write: Callable[[str], object], *, follow: bool, since_s: float | None = None) -> Attempt:
        """Write the log, or what came of it since so many seconds, secrets masked; with `follow` until the attempt has ended."""
        masker = self._vault.masker()
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        position = 0
        while True:
            attempt = self.look()
            while True:
                args: dict[str, Any] = {
                    "resource": self._key.resource,
                    "number": self._number,
                    "from": position,
                    "max": CHUNK_BYTES,
                    "since_s": since_s,
                }
                reply = self._agent.request("log", **args)
                since_s = None
                data, position = bytes(reply["data"]), int(reply["to"])
                write(masker.feed(decoder.decode(data)))
                if not data:
                    break
            if not follow or attempt.liveness not in (Liveness.ALIVE, Liveness.UNSUPERVISED):
                write(masker.feed(decoder.decode(b"", final=True)) + masker.end())
                return attempt
            time.sleep(PAUSE_S)

    def cancel(self) -> Attempt:
        """End it and wait for that; raises AlborError when it cannot be ended, or not within a minute after its grace."""
        try:
            told = self._agent.request("signal", resource=self._key.resource, number=self._number)
        except AgentError as error:
            raise AlborError.of("cancel", f"attempt {self._number} of `{self._key.resource}` cannot be ended: {error.message}") from None
        limit_s = CANCEL_LIMIT_S + told["grace_s"]
        limit = time.monotonic() + limit_s
        while time.monotonic() < limit:
            attempt = self.look()
            if attempt.liveness not in (Liveness.ALIVE, Liveness.UNSUPERVISED):
                return attempt
            time.sleep(PAUSE_S / 4)
        raise AlborError.of(
            "cancel", f"attempt {self._number} of `{self._key.resource}` did not end within {limit_s:.0f} s"
        )
