"""Convergence of one infrastructure resource: its operations in one request, then a look whether the result is what was planned."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from albor_pipeline.model.events import StepEvent
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.observed import Observation
from albor_pipeline.model.plan import Action, Step
from albor_pipeline.model.state import Current, Entry, Result, Status
from albor_pipeline.plan.decide import difference
from albor_pipeline.resources.base import Instance
from albor_pipeline.resources.registry import convergent
from albor_pipeline.run.outcome import Outcome, Work
from albor_pipeline.transport.client import Message

if TYPE_CHECKING:
    from albor_pipeline.run.workers import Run

WORDS = {Action.CREATE: "created", Action.UPDATE: "updated"}
HOOK_TIMEOUT_S = 600.0
Send = Callable[..., None]


class Convergence:
    """One resource on its way to what is wanted: one request, whose reply says what is there afterwards."""

    def __init__(self, run: Run, step: Step, wanted: Fingerprint, action: Action, send: Send) -> None:
        self._run = run
        self._step = step
        self._action = action
        self._send = send
        self._work = Work(step, wanted, time.monotonic())
        resource = run.vault.resource(run.manifest.resources[step.key.resource])
        self._one = Instance(resource, run.manifest.machines[step.key.machine], Path(run.manifest.root))
        self._kind = convergent(resource.kind)

    def begin(self) -> Outcome:
        """Put the resource among the running ones; its request is sent after that."""
        return Outcome(self._step.key, act=self._ask, work=self._work)

    def _ask(self) -> None:
        resource = self._one.resource
        observed = self._run.observed.infra.get(self._step.key, Observation(exists=False))
        operations = [dict(item) for item in self._kind.converge(self._one, observed)]
        parts = [operation.pop("data", b"") for operation in operations]
        for operation, part in zip(operations, parts, strict=True):
            operation.update({"size_bytes": len(part)} if part else {})
        hooks = {name: {"verb": "sh", "script": text, "label": name, "timeout_s": HOOK_TIMEOUT_S} for name, text in resource.hooks.items()}
        before, after = ([hooks[name]] if name in hooks else [] for name in ("pre_apply", "post_apply"))
        self._send(
            self._step.key.machine, "converge", self._done, operations=[*before, *operations, *after],
            probes=self._kind.probes(self._one), sudo=resource.sudo, exclusive=self._kind.exclusive, data=b"".join(parts),
        )  # fmt: skip

    def _done(self, reply: Message) -> list[Outcome]:
        if reply.error is not None:
            return [self._failed(reply.error.message)]
        failed = reply.body.get("failed")
        if failed is None:
            return [self._verified(reply.body["results"])]
        lines = str(failed.get("stderr") or failed.get("stdout") or "").strip().splitlines()
        what = f"{failed['label']}: " if failed.get("label") else ""
        how = "took too long" if failed.get("timed_out") else f"exit {failed.get('exit')}"
        return [self._failed(f"{what}{how}", tuple(lines[-10:]))]

    def _verified(self, results: Sequence[Mapping[str, Any]]) -> Outcome:
        seen = self._kind.observe(self._one, results)
        wanted = self._work.wanted.parts.get("fields", {})
        off = {name: value for name, value in wanted.items() if seen.values.get(name) != value}
        if seen.error is not None:
            return self._failed(seen.error)
        if off:
            return self._failed(difference(off, seen, "planned") + " after converge")
        now, seconds = self._run.clock(), time.monotonic() - self._work.since_s
        result = Result(self._work.wanted, {}, self._run.id, now, round(seconds, 3), observed=dict(seen.values))
        entry = replace(self._entry(), in_force=result, current=None)
        word = WORDS[self._action]
        event = StepEvent(self._step.key, word, now, seconds=seconds)
        return Outcome(self._step.key, "converged", entry, events=(event,), word=word)

    def _failed(self, detail: str, tail: tuple[str, ...] = ()) -> Outcome:
        now = self._run.clock()
        current = Current(self._work.wanted, self._run.id, 0, now, Status.FAILED, "error", detail, ended_utc=now)
        entry = replace(self._entry(), current=current)
        event = StepEvent(self._step.key, "FAILED", now, note=detail, tail=tail)
        return Outcome(self._step.key, "failed", entry, detail, (event,), word="failed", failed=True)

    def _entry(self) -> Entry:
        return self._run.state.state.entries.get(self._step.key) or Entry(self._step.key, self._one.resource.kind)
