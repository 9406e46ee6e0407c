"""Convergence of one infrastructure resource: its operations one after the other, then a look whether the result is what was planned."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from albor_pipeline.model.events import StepEvent
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.observed import Observation
from albor_pipeline.model.plan import Action, Step
from albor_pipeline.model.state import Current, Entry, Result, Status
from albor_pipeline.plan.decide import difference
from albor_pipeline.resources.registry import convergent
from albor_pipeline.run.outcome import Outcome, Work
from albor_pipeline.transport.client import Message

if TYPE_CHECKING:
    from albor_pipeline.run.workers import Run

WORDS = {Action.CREATE: "created", Action.UPDATE: "updated"}
Send = Callable[..., None]


class Convergence:
    """One resource on its way to what is wanted."""

    def __init__(self, run: Run, step: Step, wanted: Fingerprint, action: Action, send: Send) -> None:
        self._run = run
        self._step = step
        self._action = action
        self._send = send
        self._work = Work(step, wanted, time.monotonic())
        self._resource = run.vault.resource(run.manifest.resources[step.key.resource])
        self._machine = run.manifest.machines[step.key.machine]
        self._kind = convergent(self._resource.kind)
        observed = run.observed.infra.get(step.key, Observation(exists=False))
        self._operations = self._kind.converge(self._resource, self._machine, Path(run.manifest.root), observed)

    def begin(self) -> Outcome:
        """Put the resource among the running ones; its first operation is sent after that."""
        return Outcome(self._step.key, act=self._next, work=self._work)

    def _next(self) -> None:
        machine = self._step.key.machine
        if not self._operations:
            probes = self._kind.probes(self._resource, self._machine)
            self._send(machine, "probe", self._verify, items=probes)
            return
        operation: dict[str, Any] = dict(self._operations.pop(0))
        verb = operation.pop("verb")
        self._send(machine, verb, self._scripted if verb == "sh" else self._done, **operation)

    def _scripted(self, reply: Message) -> list[Outcome]:
        if reply.error is not None:
            return [self._failed(reply.error.message)]
        result = reply.body
        if result.get("exit") == 0:
            self._next()
            return []
        lines = str(result.get("stderr") or result.get("stdout") or "").strip().splitlines()
        return [self._failed(f"exit {result.get('exit')}", tuple(lines[-10:]))]

    def _done(self, reply: Message) -> list[Outcome]:
        if reply.error is not None:
            return [self._failed(reply.error.message)]
        self._next()
        return []

    def _verify(self, reply: Message) -> list[Outcome]:
        if reply.error is not None:
            return [self._failed(reply.error.message)]
        seen = self._kind.observe(reply.body["results"])
        wanted = self._work.wanted.parts.get("fields", {})
        off = {name: value for name, value in wanted.items() if seen.values.get(name) != value}
        if seen.error is not None:
            return [self._failed(seen.error)]
        if off:
            return [self._failed(difference(off, seen, "planned") + " after converge")]
        now, seconds = self._run.clock(), time.monotonic() - self._work.since_s
        result = Result(self._work.wanted, {}, self._run.id, now, round(seconds, 3), observed=dict(seen.values))
        entry = replace(self._entry(), in_force=result, current=None)
        word = WORDS[self._action]
        event = StepEvent(self._step.key, word, now, seconds=seconds)
        return [Outcome(self._step.key, "converged", entry, events=(event,), word=word)]

    def _failed(self, detail: str, tail: tuple[str, ...] = ()) -> Outcome:
        now = self._run.clock()
        current = Current(self._work.wanted, self._run.id, 0, now, Status.FAILED, "error", detail, ended_utc=now)
        entry = replace(self._entry(), current=current)
        event = StepEvent(self._step.key, "FAILED", now, note=detail, tail=tail)
        return Outcome(self._step.key, "failed", entry, detail, (event,), word="failed", failed=True)

    def _entry(self) -> Entry:
        return self._run.state.state.entries.get(self._step.key) or Entry(self._step.key, self._resource.kind)
