"""Rounds: what every machine is asked now and then during a run. Journals nothing and starts nothing itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Protocol

from albor_pipeline.model.events import ProgressEvent, Reporter
from albor_pipeline.model.resource import Key
from albor_pipeline.run.attempts import attempt_of
from albor_pipeline.run.fleet import Fleet, holder
from albor_pipeline.run.outcome import Outcome, Work
from albor_pipeline.run.slots import MachineSlots
from albor_pipeline.transport.client import Message

ROUND_S = 2.0
ROUNDS_TO_LEASE = 7  # 14 s: a machine lets its lease go when it hears nothing for 60 s

Sender = Callable[..., None]


class Lost(Protocol):
    """What follows when a machine is not ours any more."""

    def __call__(self, machine: str, why: str) -> list[Outcome]: ...


class Rounds:
    """Asks how far running tasks are, whether there is room for those that were sent away, and keeps the leases."""

    def __init__(
        self, fleet: Fleet, slots: Mapping[str, MachineSlots], work: Mapping[Key, Work], send: Sender, lost: Lost, report: Reporter
    ) -> None:
        self._fleet = fleet
        self._slots = slots
        self._work = work
        self._send = send
        self._lost = lost
        self._report = report
        self._last_s = time.monotonic()
        self._count = 0

    @property
    def waiting(self) -> bool:
        """True while a task waits for slots that other pipelines hold."""
        return any(slots.refused for slots in self._slots.values())

    def tick(self) -> None:
        """Send this round's questions when they are due; the answers become outcomes as all others do."""
        now = time.monotonic()
        if now - self._last_s < ROUND_S:
            return
        self._last_s = now
        self._count += 1
        for machine in self._fleet.agents.keys() & {key.machine for key in self._work}:
            self._send(machine, "attempts", self._progress, which="running")
        for machine, slots in self._slots.items():
            if slots.refused and machine in self._fleet.agents:
                self._ask_for_room(machine, slots)
        if self._count % ROUNDS_TO_LEASE == 0:
            for machine in self._fleet.agents:
                self._keep_lease(machine)

    def _progress(self, reply: Message) -> list[Outcome]:
        for raw in reply.body.get("attempts") or ():
            attempt = attempt_of(raw)
            for key, mine in self._work.items():
                if (key.resource, mine.number) == (attempt.resource, attempt.number) and attempt.progress:
                    self._report(ProgressEvent(key, attempt.progress))
        return []

    def _ask_for_room(self, machine: str, slots: MachineSlots) -> None:
        keys = sorted(slots.refused)
        wants = [{"needs": asdict(slots.refused[key]), "total": asdict(slots.total)} for key in keys]

        def reply(message: Message) -> list[Outcome]:
            found = zip(keys, message.body.get("missing") or (), strict=False)
            free = [key for key, lacking in found if not lacking and slots.refused.pop(key, None) is not None]
            return [Outcome(key, again=True) for key in free]

        self._send(machine, "slots", reply, wants=wants)

    def _keep_lease(self, machine: str) -> None:
        def reply(message: Message) -> list[Outcome]:
            return [] if message.error is None else self._lost(machine, f"{machine} is not ours any more: {message.error.message}")

        self._send(machine, "lease", reply, **holder())
