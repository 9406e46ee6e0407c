"""Stored: what the machines' stores know of a plan's steps, and the way back to a result. Looks only; the agent does the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.errors import AlborError, UnreachableError
from albor_pipeline.model.events import NoteEvent, StepEvent
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.observed import Observed, Stored
from albor_pipeline.model.plan import Action, Step
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Entry, Origin, Result
from albor_pipeline.plan.decide import Decision
from albor_pipeline.plan.judge import may_be_kept
from albor_pipeline.run.attempts import proof_of
from albor_pipeline.run.fleet import Fleet
from albor_pipeline.run.outcome import Outcome, Work
from albor_pipeline.run.relay import Errand
from albor_pipeline.transport.client import AgentError, Message

if TYPE_CHECKING:
    from albor_pipeline.run.workers import Run

Send = Callable[..., None]
Bring = Callable[["Key", "list[Errand]", "Callable[[AgentError | None], list[Outcome]]"], None]
Asked = tuple[Key, dict[str, Any]]
GONE = "not-kept"
SPOILED = ("not-there", "digest", "listing")


def stored_of(raw: Mapping[str, Any]) -> Stored:
    """One result as the agent's index has it."""
    result = Result(
        fingerprint=Fingerprint(raw.get("parts") or {}),
        outputs={path: proof_of(proof) for path, proof in raw["outputs"].items()},
        run=str(raw.get("run") or ""),
        at_utc=str(raw.get("at_utc") or ""),
        seconds=float(raw.get("seconds") or 0.0),
        attempt=int(raw.get("number") or 0),
        origin=Origin.RESTORED,
        summary=raw.get("summary") or {},
    )
    return Stored(str(raw["id"]), result, str(raw.get("missing") or ""))


def kept_of(fleet: Fleet, key: Key) -> list[Stored]:
    """Every result that a machine knows of a task, whatever it was made from."""
    answer = fleet.probe(key.machine, [{"op": "results", "resource": key.resource}])[0]
    return [stored_of(raw) for raw in answer.get("results") or ()]


def follow(fleet: Fleet, renamed: Mapping[Key, Key]) -> None:
    """What is kept goes with a resource to its new name, on each machine that answers; elsewhere it costs a run.

    Raises AlborError where there is no room for it: nothing is renamed yet.
    """
    for old, new in renamed.items():
        if old.resource == new.resource or new.machine not in fleet.agents:
            continue
        try:
            fleet.agents[new.machine].request("store_rename", before=old.resource, after=new.resource)
        except AgentError as error:
            text = f"what {new.machine} keeps of `{old.resource}` cannot go to the name `{new.resource}`: {error.message}"
            raise AlborError.of("not-renamed", text, "free some room there: store gc") from None


@dataclass(frozen=True)
class Look:
    """What the stores know of steps: that of their machine, then those of machines that have had the task.

    `before` are the names under which those are kept that a plan only sees under another one; without `far` nothing is looked for
    where it would have to be moved from.
    """

    manifest: Manifest
    fleet: Fleet
    entries: Container[Key]
    before: Mapping[Key, Key]
    far: bool = True

    def at(self, steps: Iterable[Step], observed: Observed) -> Observed:
        """What was observed, with what is kept of those steps that would run, or may; one request a machine, then one more."""
        fleet = self.fleet
        asked: dict[str, list[Asked]] = {}
        for step in steps:
            if not (step.action.executes or step.action is Action.MAY_RUN) or step.key.machine not in fleet.agents:
                continue
            if may_be_kept(self.manifest.resources[step.key.resource].fields_on(step.key.machine)):
                asked.setdefault(step.key.machine, []).append((step.key, self._item(step)))
        found = _ask(fleet, asked)
        here = {key for key, known in found.items() if any(not one.missing for one in known)}
        lacking = [item for items in asked.values() for item in items if item[0] not in here]
        for other in sorted(fleet.agents):
            for key, known in _ask(fleet, {other: list(self._of(other, lacking, observed))}).items():
                found[key] = _merged(self._is_near(key.machine, other), [replace(one, machine=other) for one in known], found.get(key, ()))
        views = observed.machines
        gone = {name: replace(views[name], error=why) for name, why in fleet.errors.items() if views[name].error is None}
        return replace(observed, stored=found, machines={**views, **gone}) if found or gone else observed

    def _item(self, step: Step) -> dict[str, Any]:
        wanted = step.fingerprint
        fingerprint = wanted.digest(digest_bytes) if wanted is not None and not wanted.unknown else None
        return {"op": "results", "resource": self.before.get(step.key, step.key).resource, "fingerprint": fingerprint}

    def _of(self, other: str, lacking: Iterable[Asked], observed: Observed) -> Iterator[Asked]:
        """What to ask of a machine: tasks of others that it has had. One that has only moved there counts by its outputs, too."""
        for key, item in lacking:
            had = item["resource"] in observed.machines[other].by_resource or Key(item["resource"], other) in self.entries
            near = self._is_near(key.machine, other)
            if other != key.machine and had and (near or self.far):
                yield key, item if near else {**item, "outputs": True}

    def _is_near(self, machine: str, other: str) -> bool:
        """Whether two names are of one machine: then its agent can read both stores, and nothing has to be carried."""
        agents = self.fleet.agents
        return machine in agents and other in agents and agents[machine].hello["machine_id"] == agents[other].hello["machine_id"]


def _merged(near: bool, more: Sequence[Stored], known: Sequence[Stored]) -> tuple[Stored, ...]:
    """The last is taken: what lies here before what lies near, and that before what has to be moved."""
    far = [one for one in known if one.machine] if near else []
    return (*far, *more, *(one for one in known if one not in far))


def _ask(fleet: Fleet, asked: Mapping[str, list[Asked]]) -> dict[Key, tuple[Stored, ...]]:
    found: dict[Key, tuple[Stored, ...]] = {}
    for machine, items in asked.items():
        if not items or machine not in fleet.agents:
            continue
        try:
            answers = fleet.probe(machine, [item for _, item in items])
        except UnreachableError as error:
            fleet.lose(machine, error)
            continue
        for (key, _), answer in zip(items, answers, strict=True):
            if answer.get("results"):
                found[key] = tuple(stored_of(raw) for raw in answer["results"])
    return found


class Restoring:
    """One step whose result is given back; where that cannot be done the step is judged anew without it."""

    def __init__(self, run: Run, step: Step, decision: Decision, wanted: Fingerprint, send: Send, bring: Bring) -> None:
        assert decision.stored is not None
        self._run = run
        self._step = step
        self._reason = decision.reason
        self._stored = decision.stored
        self._wanted = wanted
        self._send = send
        self._bring = bring
        self._since_s = time.monotonic()

    def begin(self) -> Outcome:
        """Put the step among the running ones and ask its machine."""
        key, source = self._step.key, self._stored.machine
        event = StepEvent(key, "fetching" if source else "restoring", self._run.clock(), note=self._reason.text)
        work = Work(self._step, self._wanted, self._since_s)
        return Outcome(key, events=(event,), act=self._carry if self._is_far() else self._restore, work=work)

    def _is_far(self) -> bool:
        """Whether the result lies where the agent of the step's machine cannot read it."""
        views, there = self._run.observed.machines, self._stored.machine
        return bool(there) and views[there].machine_id != views[self._step.key.machine].machine_id

    def _carry(self) -> None:
        """Bring what the result is made of into the store there; then it is restored as any other."""
        key, there = self._step.key, self._stored.machine
        errands = [
            Errand(there, path, key.machine, path, proof.root, key.resource, self._run.id, keep=True, size_bytes=proof.size_bytes)
            for path, proof in self._stored.result.outputs.items()
            if proof.root is not None
        ]
        self._bring(key, errands, self._brought)

    def _brought(self, error: AgentError | None) -> list[Outcome]:
        if error is None:
            self._restore()
            return []
        return [self._without(error.message) if error.code in SPOILED else self._failed(error.message)]

    def _restore(self) -> None:
        key, stored = self._step.key, self._stored
        fingerprint = self._wanted.digest(digest_bytes)
        args: dict[str, Any] = {"resource": key.resource, "fingerprint": fingerprint, "result": stored.id, "run": self._run.id}
        if self._is_far():
            args["brought"] = {"parts": self._wanted.parts, "result": self._raw()}
        elif stored.machine:
            args["source"] = str(self._run.fleet.agents[stored.machine].hello["workdir"])
        self._send(key.machine, "restore", self._done, **args)

    def _raw(self) -> dict[str, Any]:
        """The result as an agent's index has it."""
        result = self._stored.result
        about = {"id": self._stored.id, "run": result.run, "number": result.attempt, "seconds": result.seconds, "at_utc": result.at_utc}
        outputs = {path: asdict(proof) for path, proof in result.outputs.items()}
        return {**about, "lineage": self._run.state.state.lineage, "summary": result.summary, "outputs": outputs}

    def _done(self, reply: Message) -> list[Outcome]:
        key, run = self._step.key, self._run
        if reply.error is not None:
            return [self._without(reply.error.message) if reply.error.code == GONE else self._failed(reply.error.message)]
        now, seconds = run.clock(), time.monotonic() - self._since_s
        result = replace(self._stored.result, fingerprint=self._wanted)
        known = run.state.state.entries.get(key) or Entry(key, "task")
        word = "fetched" if self._stored.machine else "restored"
        event = StepEvent(key, word, now, seconds=seconds, outputs=result.outputs)
        notes = tuple(NoteEvent(f"what lay at the outputs of {key.resource} is now {path}") for path in reply.body.get("kept") or ())
        entry = replace(known, in_force=result, current=None)
        return [Outcome(key, word, entry, self._reason.text, (event, *notes), word=word)]

    def _failed(self, why: str) -> Outcome:
        """Nothing was taken away and nothing is recorded, so that the next run tries again."""
        event = StepEvent(self._step.key, "FAILED", self._run.clock(), note=why)
        return Outcome(self._step.key, events=(event,), word="failed", failed=True)

    def _without(self, why: str) -> Outcome:
        run, key = self._run, self._step.key
        others = tuple(replace(one, missing=why) if one.id == self._stored.id else one for one in run.observed.stored.get(key, ()))
        run.observed = replace(run.observed, stored={**run.observed.stored, key: others})
        note = NoteEvent(f"the result of {key.resource} cannot be restored: {why}")
        return Outcome(key, events=(note,), again=True)
