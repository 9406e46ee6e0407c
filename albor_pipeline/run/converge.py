"""Convergence of one infrastructure resource: its operations in one request, then a look whether the result is what was planned."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from albor_pipeline.model.events import StepEvent
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.observed import Observation
from albor_pipeline.model.plan import Action, Step
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Current, Entry, Origin, Result, Status
from albor_pipeline.plan.decide import Decision, begun, difference, is_elsewhere, masked
from albor_pipeline.resources.base import Convergent, Instance, Item
from albor_pipeline.resources.registry import convergent
from albor_pipeline.run.logs import keep, tail
from albor_pipeline.run.observe import Take, probes_of
from albor_pipeline.run.outcome import Outcome, Work
from albor_pipeline.transport.client import Message

if TYPE_CHECKING:
    from albor_pipeline.run.workers import Run

WORDS = {Action.CREATE: "created", Action.UPDATE: "updated"}
HOOK_TIMEOUT_S = 600.0
OUTPUT_CUT = "it printed more than is kept"
Send = Callable[..., None]
Looks = Callable[[Key], list[tuple[dict[str, Any], Take]]]


class Convergence:
    """One resource on its way to what is wanted: one request, whose reply says what is there afterwards."""

    def __init__(self, run: Run, step: Step, decision: Decision, wanted: Fingerprint, send: Send, looks: Looks) -> None:
        self._run = run
        self._step = step
        self._looks = looks
        self._next: list[tuple[dict[str, Any], Take]] = []
        self._decision = decision
        self._send = send
        self._work = Work(step, wanted, time.monotonic())
        self._one = run.observer.instance(step.key)
        self._kind = convergent(self._one.resource.kind)
        seen = run.observed.infra.get(step.key)
        self._observed = masked(seen, wanted, self._entry(), self._one.resource.ignore_drift) or Observation(False)
        self._removal = removal(self._kind, self._one, before=self._was_there(), made=self._kind.made(self._one, self._observed))

    def begin(self) -> Outcome:
        """Put the resource among the running ones; its request is sent once that is recorded: what is made and never proven is ours."""
        current = Current(self._work.wanted, self._run.id, 0, self._run.clock(), Status.RUNNING, removal=self._removal)
        return Outcome(self._step.key, "converging", replace(self._entry(), current=current), act=self._ask, work=self._work)

    def _ask(self) -> None:
        again = self._decision.reason.code == "forced" or any(change.group == "triggers" for change in self._decision.changes)
        do = self._kind.again if again else self._kind.converge
        hooks = {name: _hook(name, text) for name, text in self._one.resource.hooks.items()}
        before, after = ([hooks[name]] if name in hooks else [] for name in ("pre_apply", "post_apply"))
        operations, data = sendable([*before, *do(self._one, self._as_the_kind_sees()), *after])
        self._next = self._looks(self._step.key)
        probes = [*probes_of(self._kind, self._one), *(item for item, _take in self._next)]
        self._send(
            self._step.key.machine, "converge", self._done, operations=operations, probes=probes,
            sudo=self._one.resource.sudo, exclusive=self._kind.exclusive, data=data,
        )  # fmt: skip

    def _done(self, reply: Message) -> list[Outcome]:
        wrong = trouble(reply)
        if wrong is not None:
            return [self._failed(*wrong)]
        results = reply.body["results"]
        own = len(results) - len(self._next)
        for (_item, take), result in zip(self._next, results[own:], strict=True):
            take(result)
        return [self._verified(results[:own])]

    def _verified(self, results: Sequence[Mapping[str, Any]]) -> Outcome:
        raw = self._run.observer.seen(self._one, results)
        seen = masked(raw, self._work.wanted, self._entry(), self._one.resource.ignore_drift) or raw
        wanted = self._work.wanted.parts.get("fields", {})
        off = {name: value for name, value in wanted.items() if seen.values.get(name) != value}
        if seen.error is not None:
            return self._failed(seen.error)
        if off:
            return self._failed(difference(off, seen, "planned") + " after converge")
        now, seconds = self._run.clock(), time.monotonic() - self._work.since_s
        result = Result(self._work.wanted, {}, self._run.id, now, round(seconds, 3), observed=dict(wanted), removal=self._removal)
        entry = replace(self._entry(), in_force=result, current=None)
        word = WORDS[self._decision.action]
        note = "; ".join(self._kind.leaves(self._one, self._observed))
        event = StepEvent(self._step.key, word, now, note=note, seconds=seconds)
        return Outcome(self._step.key, "converged", entry, events=(event,), word=word)

    def _as_the_kind_sees(self) -> Observation:
        """What was observed, with what is as wanted in the kind's own words: a secret is recorded in others."""
        seen, wanted, own = self._observed.values, self._work.wanted.parts.get("fields", {}), self._kind.wanted(self._one)
        same = {name: value for name, value in own.items() if name in seen and seen[name] == wanted.get(name)}
        return replace(self._observed, values={**seen, **same})

    def _was_there(self) -> bool:
        """Whether the thing was there before anything of ours made it, or began to; then it is not ours to take away."""
        result, wanted = self._entry().in_force, self._work.wanted
        begins = begun(wanted, self._entry())
        if self._decision.action is not Action.UPDATE:
            return False
        result = None if result is None or is_elsewhere(wanted, result) else result
        known = [each for each in (result, begins) if each is not None and (each is result or each.removal)]
        if not known:
            return self._kind.was_there(self._observed, wanted.parts.get("fields", {}))
        before = {name for each in known for name in each.fingerprint.parts.get("fields", {})}
        more = [name for name in wanted.parts.get("fields", {}) if name not in before] if self._kind.many else []
        grown = any(self._observed.values.get(name, "absent") != "absent" for name in more)
        found = any(each.removal.get("found") for each in known)
        return grown or found or (result is not None and not result.removal and result.origin is Origin.FOUND)

    def _failed(self, detail: str, said: str = "", last: str = "") -> Outcome:
        return _failed(self._run, self._work, self._entry(), detail, said, last)

    def _entry(self) -> Entry:
        return self._run.state.state.entries.get(self._step.key) or Entry(self._step.key, self._one.resource.kind)


class Removal:
    """One thing that is taken away: by what was recorded when it was made, whether it is still declared or not."""

    def __init__(self, run: Run, step: Step, send: Send) -> None:
        self._run = run
        self._step = step
        self._send = send
        self._entry = run.state.state.entries[step.key]
        last = self._entry.in_force or self._entry.current
        assert last is not None
        self._how = self._entry.removal
        self._work = Work(step, last.fingerprint, time.monotonic())

    def begin(self) -> Outcome:
        """Put it among the running ones; its request is sent after that."""
        return Outcome(self._step.key, act=self._ask, work=self._work)

    def _ask(self) -> None:
        operations, data = sendable(self._how["operations"])
        self._send(
            self._step.key.machine, "converge", self._done, operations=operations, probes=[],
            sudo=bool(self._how.get("sudo")), exclusive=self._how.get("exclusive", ""), data=data,
        )  # fmt: skip

    def _done(self, reply: Message) -> list[Outcome]:
        wrong = trouble(reply)
        if wrong is not None:
            return [_failed(self._run, self._work, self._entry, *wrong)]
        now = self._run.clock()
        event = StepEvent(self._step.key, "destroyed", now, seconds=time.monotonic() - self._work.since_s)
        return [Outcome(self._step.key, "destroyed", None, events=(event,), word="destroyed")]


def sendable(operations: Sequence[Item]) -> tuple[list[Item], bytes]:
    """The operations as a request holds them, and the bytes of their files, one after another."""
    parts = [operation.get("data", b"") for operation in operations]
    told = [{name: value for name, value in operation.items() if name != "data"} for operation in operations]
    return [{**item, "size_bytes": len(part)} if part else item for item, part in zip(told, parts, strict=True)], b"".join(parts)


def trouble(reply: Message) -> tuple[str, str, str] | None:
    """What a machine's reply to `converge` says against it, what was printed, and the last of that; None when all went well."""
    if reply.error is not None:
        return reply.error.message, "", ""
    failed = reply.body.get("failed")
    if failed is None:
        return None
    what = f"{failed['label']}: " if failed.get("label") else ""
    how = "took too long" if failed.get("timed_out") else f"exit {failed.get('exit')}"
    return f"{what}{how}", *printed(failed)


def printed(result: Mapping[str, Any]) -> tuple[str, str]:
    """All that a script printed, its errors last, and that part of it that says what went wrong."""
    out, err = (str(result.get(stream) or "") for stream in ("stdout", "stderr"))
    between = "\n" if out and err and not out.endswith("\n") else ""
    cut = f"\n({OUTPUT_CUT})\n" if result.get("truncated") else ""
    return f"{out}{between}{err}{cut}", (err.strip() or out.strip())


def removal(kind: Convergent, one: Instance, *, before: bool = False, made: Sequence[str] = ()) -> Mapping[str, Any]:
    """How a thing is taken away once it is declared no more, as it is recorded; nothing where nothing was to be there.

    What was there `before` is recorded as `found`, and stays; of what is inside it, what we `made` is ours all the same.
    """
    if getattr(one.fields, "state", None) == "absent":
        return {}
    marks = {"prevented": one.resource.prevent_destroy, "found": before}
    told = {"operations": kind.remove(one), "sudo": one.resource.sudo, "exclusive": kind.exclusive}
    return told | {name: True for name, given in marks.items() if given} | ({"made": list(made)} if before and made else {})


def found(run: Run, key: Key) -> dict[str, Any]:
    """What is recorded of a thing that was there already: nothing for a task."""
    one = run.observer.instance(key)
    wanted = run.observed.wanted.get(key)
    return {} if wanted is None else {"observed": dict(wanted), "removal": removal(convergent(one.resource.kind), one, before=True)}


def _hook(name: str, text: str) -> Item:
    return {"verb": "sh", "script": text, "label": name, "timeout_s": HOOK_TIMEOUT_S}


def _failed(run: Run, work: Work, entry: Entry, detail: str, said: str, last: str) -> Outcome:
    detail, said, last = (run.vault.mask(text) for text in (detail, said, last))
    now, key = run.clock(), work.step.key
    log = keep(run, run.state.log_path(run.id, key), said, key.resource)
    kept = entry.current.removal if entry.current is not None else {}
    current = Current(work.wanted, run.id, 0, now, Status.FAILED, "error", detail, log, now, kept)
    event = StepEvent(key, "FAILED", now, note=detail, tail=tail(last), log=log)
    return Outcome(key, "failed", replace(entry, current=current), detail, (event,), word="failed", failed=True)
