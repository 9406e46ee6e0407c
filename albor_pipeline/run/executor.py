"""The executor: one loop over one graph on all machines. It follows the plan, journals before it acts, and waits for all machines at once.

Every step goes through the places of `Place`, and set_place() sees each move. One turn of the loop takes what the machines
said, judges what that made ready, journals all of it with one fsync, and only then acts: starts, acks, reports.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from albor_pipeline.errors import AlborError, ManifestError, UnreachableError
from albor_pipeline.model.events import Reporter, RunStarted, StepEvent
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.observed import Observed
from albor_pipeline.model.plan import Action, Plan, Step
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Entry
from albor_pipeline.plan.decide import Decision
from albor_pipeline.run.fleet import Fleet
from albor_pipeline.run.limits import Leave, Limits
from albor_pipeline.run.outcome import Outcome
from albor_pipeline.run.workers import Workers
from albor_pipeline.state.folder import StateFolder, Transition

POLL_S = 0.5
HOLDING = (Action.HOLD, Action.CONFLICT, Action.UNKNOWN)
STARTS_NOTHING = (*HOLDING, Action.ATTACH, Action.ADOPT, Action.SKIP, Action.LEAVE)


class Decider(Protocol):
    """What says of a ready step what becomes of it, and is told what did."""

    def judge(self, key: Key, observed: Observed) -> tuple[Decision, Fingerprint | None]: ...

    def note(self, key: Key, entry: Entry | None, *, settled: bool, held: bool = False) -> None: ...


class Place(Enum):
    """Where a step is."""

    WAITING = "waiting"
    READY = "ready"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    HELD = "held"


@dataclass(frozen=True)
class Ended:
    """How the loop ended: the count of each word, and what is still under way."""

    counts: Counter[str]
    running: tuple[Key, ...] = ()
    left: Leave = Leave.NO
    broken: str = ""
    stale: tuple[str, ...] = ()


@dataclass
class _Now:
    """The loop's own variables."""

    place: dict[Key, Place] = field(default_factory=dict)
    missing: dict[Key, int] = field(default_factory=dict)
    ready: list[tuple[int, Key]] = field(default_factory=list)
    parked: dict[str, list[tuple[int, Key]]] = field(default_factory=dict)
    free: set[str] = field(default_factory=set)
    counts: Counter[str] = field(default_factory=Counter)
    stale: list[str] = field(default_factory=list)
    cancelled: bool = False
    lost: list[Outcome] = field(default_factory=list)


class Executor:
    """Runs one plan to its end, or as far as failures, the user or the disk allow."""

    def __init__(
        self, plan: Plan, judge: Decider, folder: StateFolder, fleet: Fleet, workers: Workers, limits: Limits, report: Reporter
    ) -> None:
        self.plan = plan
        self.judge = judge
        self.folder = folder
        self.fleet = fleet
        self.workers = workers
        self.limits = limits
        self.report = report
        self.steps = {step.key: step for step in plan.steps}
        self.rank = {step.key: index for index, step in enumerate(plan.steps)}
        self.after: dict[Key, list[Key]] = {}
        for step in plan.steps:
            for up in step.after:
                self.after.setdefault(up, []).append(step.key)
        self.now = _Now()
        workers.waits_only_for = self._waits_only_for

    def run(self) -> Ended:
        """The whole run; a failing step, a full disk or a lost machine ends up in the result and is not raised."""
        changes = len(self.plan.changes)
        unchanged = len(self.plan.steps) - changes
        self.report(RunStarted(self.workers.run, self.workers.shown_folder, changes, unchanged, len(self.plan.machines)))
        for step in self.plan.steps:
            self.now.missing[step.key] = sum(1 for up in step.after if up in self.steps)
            self.set_place(step.key, Place.WAITING if self.now.missing[step.key] else Place.READY)
        broken, arrived = "", list[Outcome]()
        try:
            while self._turn(arrived) and not self._user_leaves():
                arrived = self._wait()
        except AlborError as error:
            broken = error.diagnostics[0].message
        going_on = tuple(sorted(key for key in self.workers.work if key not in self.workers.moves))
        return Ended(self._counts(), going_on, self.limits.leave(), broken, tuple(self.now.stale))

    def _turn(self, arrived: list[Outcome]) -> bool:
        """Settle what arrived, start what is ready, journal both, act; False when nothing is under way any more."""
        outcomes = list(arrived)
        for outcome in arrived:
            self._settle(outcome)
        outcomes += self._start_ready()
        moves = [Transition(o.what, o.key, o.entry, o.note) for o in outcomes if o.what is not None]
        if moves:
            self.folder.record(moves)
        for outcome in outcomes:
            if outcome.act is not None:
                outcome.act()
            for event in outcome.events:
                self.report(event)
        return bool(self.workers.work) or bool(self.now.lost) or (self.workers.rounds.waiting and self._may_start())

    def _settle(self, outcome: Outcome) -> None:
        """Take a move into memory; nothing outside has seen it yet."""
        if outcome.work is not None:
            self.workers.work[outcome.key] = outcome.work
            self.set_place(outcome.key, Place.RUNNING)
        if outcome.word is None and not (outcome.again or outcome.waits):
            return
        self.workers.work.pop(outcome.key, None)
        self.workers.give_back(outcome.key)
        self.now.free.update(self.now.parked)
        if outcome.word is None:
            self.set_place(outcome.key, Place.QUEUED if outcome.waits else Place.READY)
            return
        self.now.counts[outcome.word] += 1
        if outcome.what is not None:
            self.workers.changed.add(outcome.key)
        self.judge.note(outcome.key, outcome.entry, settled=not outcome.failed)
        self.set_place(outcome.key, Place.FAILED if outcome.failed else Place.DONE)

    def set_place(self, key: Key, place: Place) -> None:
        """The only way a step moves; one that is done or held releases what waits for it."""
        self.now.place[key] = place
        if place is Place.READY:
            heapq.heappush(self.now.ready, (self.rank[key], key))
        if place not in (Place.DONE, Place.HELD):
            return
        for down in self.after.get(key, ()):
            if down in self.now.missing:
                self.now.missing[down] -= 1
                if self.now.missing[down] == 0:
                    self.set_place(down, Place.READY)

    def _waits_only_for(self, key: Key) -> list[Key]:
        """The steps that are ready as soon as this one is done."""
        return [down for down in self.after.get(key, ()) if self.now.missing[down] == 1]

    def _start_ready(self) -> list[Outcome]:
        outcomes: list[Outcome] = []
        while self._may_start() and (queue := self._next_queue()) is not None:
            rank, key = heapq.heappop(queue)
            step = self.steps[key]
            will_run = queue is not self.now.ready or _surely_runs(step)
            outcome = None if will_run and not self.workers.has_room(step) else self._begin(step)
            if outcome is None:
                heapq.heappush(self.now.parked.setdefault(key.machine, []), (rank, key))
                self.now.free.discard(key.machine)
                continue
            outcomes.append(outcome)
            self._settle(outcome)
        return outcomes

    def _next_queue(self) -> list[tuple[int, Key]] | None:
        """The queue whose first step is the earliest in the plan: the ready ones, and those parked where a slot came free."""
        queues = [self.now.ready, *(self.now.parked.get(machine, []) for machine in self.now.free)]
        return min((queue for queue in queues if queue), key=lambda queue: queue[0], default=None)

    def _may_start(self) -> bool:
        return self.limits.leave() is Leave.NO and not (self.now.counts["failed"] and self.limits.stop_on_first)

    def _full(self) -> bool:
        limit = self.limits.max_parallel or self.limits.policy.max_parallel
        return limit is not None and len(self.workers.work) >= limit

    def _begin(self, step: Step) -> Outcome | None:
        """What becomes of a ready step, or None when it must wait for a slot."""
        try:
            return self._decide(step)
        except UnreachableError as error:
            self.now.lost += self.workers.lost(step.key.machine, error.diagnostics[0].message)
            return self._decide(step)
        except ManifestError as error:
            return self._stopped(step, error.diagnostics[0].message)

    def _decide(self, step: Step) -> Outcome | None:
        observed = self.workers.observe(step)
        decision, wanted = self.judge.judge(step.key, observed)
        if not _allowed(decision.action, step):
            return self._stale(step, decision)
        if decision.loses and not step.loses and not self.limits.sure:
            return self._stopped(step, f"this would overwrite what is there since the plan was made: {decision.reason.text}; see it: plan")
        if decision.reason.code == "unreachable" and self.limits.policy.fails_unreachable:
            event = StepEvent(step.key, "FAILED", self.workers.clock(), note=observed.machines[step.key.machine].error or "")
            return Outcome(step.key, entry=self.folder.state.entries.get(step.key), word="failed", events=(event,), failed=True)
        if decision.action in HOLDING:
            return self._held(step, decision.action.word, decision.reason.text)
        if decision.action is Action.SKIP:
            return Outcome(step.key, entry=self.folder.state.entries.get(step.key), word="unchanged")
        if decision.action is Action.LEAVE:
            event = StepEvent(step.key, "drifted", self.workers.clock(), note=decision.reason.text)
            return Outcome(step.key, entry=self.folder.state.entries.get(step.key), word="drifted", events=(event,))
        if self._full():
            return None
        try:
            return self.workers.begin(step, decision, wanted)
        except UnreachableError:
            raise
        except AlborError as error:
            return self._stopped(step, error.diagnostics[0].message)

    def _stale(self, step: Step, decision: Decision) -> Outcome:
        return self._stopped(step, f"plan is stale: {step.action.word} was planned, now {decision.action.word}: {decision.reason.text}")

    def _stopped(self, step: Step, text: str) -> Outcome:
        """This branch goes no further in this run; others do."""
        self.workers.give_back(step.key)
        self.now.stale.append(f"{step.key}: {text}")
        return self._held(step, "stale", text)

    def _held(self, step: Step, word: str, text: str) -> Outcome:
        self.now.counts["held"] += 1
        self.judge.note(step.key, self.folder.state.entries.get(step.key), settled=False, held=True)
        self.set_place(step.key, Place.HELD)
        return Outcome(step.key, events=(StepEvent(step.key, word, self.workers.clock(), note=text),))

    def _wait(self) -> list[Outcome]:
        """Block until a machine says something or time passes; returns what follows from it."""
        outcomes, self.now.lost = self.now.lost, []
        messages = self.fleet.poll(0 if outcomes else POLL_S)
        for name, message in messages:
            outcomes += self.workers.take(name, message)
        self.workers.rounds.tick()
        return outcomes + self.workers.moves.tick()

    def _user_leaves(self) -> bool:
        """True when the user leaves the attempts running; a cancel is passed on and waited for."""
        leave = self.limits.leave()
        if leave is Leave.CANCEL and not self.now.cancelled:
            self.now.cancelled = True
            self.workers.cancel()
        return leave is Leave.STOP and self.workers.grace_is_over()

    def _counts(self) -> Counter[str]:
        counts = Counter(self.now.counts)
        counts["not started"] += sum(1 for place in self.now.place.values() if place in (Place.WAITING, Place.READY, Place.QUEUED))
        counts["not started"] += sum(1 for key in self.workers.work if key in self.workers.moves)
        return +counts


def _surely_runs(step: Step) -> bool:
    """True when nothing that earlier steps make can turn this one into something that needs no slot."""
    return step.action.executes and step.fingerprint is not None and not step.fingerprint.unknown


def _allowed(action: Action, step: Step) -> bool:
    """Apply may pick what the plan allowed; what starts nothing is always allowed, and ways to run it count as one."""
    if action in step.allowed or action in STARTS_NOTHING:
        return True
    return (action.executes or action in (Action.RESTORE, Action.FETCH)) and any(allowed.executes for allowed in step.allowed)
