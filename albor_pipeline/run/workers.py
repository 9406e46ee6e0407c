"""Workers: how each step is begun on its machine, and what its machine's messages mean. Journals nothing itself: it returns Outcomes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from albor_pipeline.agent.slots import DEFAULT
from albor_pipeline.errors import UnreachableError
from albor_pipeline.model.attempt import Attempt, ExitClass
from albor_pipeline.model.events import NoteEvent, Reporter, StepEvent
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.manifest import Manifest, Slots
from albor_pipeline.model.observed import Observed
from albor_pipeline.model.plan import Action, Step
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Current, Entry, Origin, OutputProof, Result, Status
from albor_pipeline.plan.decide import Decision
from albor_pipeline.plan.judge import GATE
from albor_pipeline.resources.task import Task
from albor_pipeline.run.attempts import attempt_of, result_of
from albor_pipeline.run.converge import Convergence, Removal, found
from albor_pipeline.run.fleet import Fleet
from albor_pipeline.run.logs import MISSED_BYTES, keep, missed, tail
from albor_pipeline.run.moves import Moves
from albor_pipeline.run.observe import Observer, Take
from albor_pipeline.run.outcome import Outcome, Work
from albor_pipeline.run.rounds import Rounds
from albor_pipeline.run.secrets import Vault
from albor_pipeline.run.slots import MachineSlots
from albor_pipeline.run.snapshot import CodeSender
from albor_pipeline.run.spec import Start, request
from albor_pipeline.run.stored import Restoring
from albor_pipeline.state.folder import StateFolder
from albor_pipeline.transport.client import AgentError, Message

LEAVE_GRACE_S = 3.0
LOG_LIMIT_BYTES = 4 << 20
OVERTAKEN = ("busy", "stale")
MAX_TRIES = 3
HALF_WAY = "what was begun there may be half done: the next apply looks, and finishes it"
SPARE_CPU_SLOTS = 2  # while a task is proven and journaled its core is free; ninja starts as many more

Reply = Callable[[Message], list[Outcome]]


@dataclass
class Run:
    """What all workers of one run share."""

    id: str
    folder: Path
    shown_folder: str
    manifest: Manifest
    state: StateFolder
    fleet: Fleet
    observer: Observer
    observed: Observed
    report: Reporter
    clock: Callable[[], str]
    vault: Vault
    no_move: bool = False


class Workers:
    """Begins steps and turns messages into outcomes; `work` is what is under way, kept by the executor."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.run = run.id
        self.shown_folder = run.shown_folder
        self.clock = run.clock
        self.work: dict[Key, Work] = {}
        self.changed: set[Key] = set()
        self.fresh: set[Key] = set()
        self.waits_only_for: Callable[[Key], list[Key]] = lambda key: []
        self.slots = {name: MachineSlots(self._slots(name)) for name in run.manifest.machines}
        self._replies: dict[tuple[str, int], Reply] = {}
        self._parts: dict[tuple[str, int], tuple[Message, list[bytes | memoryview]]] = {}
        self._code = CodeSender(Path(run.manifest.root), run.fleet)
        self._leaving_since: float | None = None
        self._taken: dict[Key, int] = {}
        self._tries: Counter[Key] = Counter()
        self._replaced: set[Key] = set()
        self.moves = Moves(run)
        self.rounds = Rounds(run.fleet, self.slots, self.work, self._send, self.lost, run.report)

    def _slots(self, name: str) -> Slots:
        agent = self._run.fleet.agents.get(name)
        facts: Mapping[str, Any] = agent.hello if agent else {}
        found = Slots(len(facts.get("gpus") or ()), int(facts.get("cpus") or 1) + SPARE_CPU_SLOTS, int(facts.get("memory_bytes") or 0))
        declared = self._run.manifest.machines[name].slots
        return replace(found, **declared)

    def give_back(self, key: Key) -> None:
        """A step is over: its slots are free."""
        if key.machine in self.slots:
            self.slots[key.machine].give_back(key)

    def observe(self, step: Step) -> Observed:
        """What was observed, with that looked at again that earlier steps may have changed since. Raises UnreachableError."""
        run, came = self._run, self.moves.came(step.key)
        if step.action in (Action.DESTROY, Action.FORGET):
            return run.observed
        items = run.observer.made_inputs(step.key) if step.key.machine in run.fleet.agents else []
        items = [item for item in items if item[0]["path"] not in came]
        if step.key not in self.fresh and not self.changed.isdisjoint(step.after) and step.key.machine in run.fleet.agents:
            items += run.observer.infra_items(step.key)
        if items:
            results = run.fleet.probe(step.key.machine, [item for item, _ in items])
            for (_, take), result in zip(items, results, strict=True):
                take(result)
        return run.observed

    def begin(self, step: Step, decision: Decision, wanted: Fingerprint | None) -> Outcome | None:
        """The first move of a step that has something to do, or None when no slot is free."""
        if decision.action is Action.FORGET:
            event = StepEvent(step.key, "forgotten", self.clock())
            return Outcome(step.key, what="forgotten", entry=None, word="forgotten", events=(event,))
        if decision.action is Action.DESTROY:
            return Removal(self._run, step, self._send).begin()
        assert wanted is not None
        if decision.action is Action.ADOPT:
            return self._adopt(step, decision, wanted)
        if decision.action in (Action.RESTORE, Action.FETCH):
            return Restoring(self._run, step, decision, wanted, self._send, self.moves.bring).begin()
        task = self._fields(step.key)
        if isinstance(task, Task):
            moving = self.moves.begin(step, wanted) if decision.action is not Action.ATTACH else None
            if moving is not None:
                return moving
            if not self.slots[step.key.machine].take(step.key, _slots_of(task)):
                return None
            if decision.action is Action.ATTACH:
                return self._attach(step, decision, wanted)
            return self._start(step, decision, wanted)
        return Convergence(self._run, step, decision, wanted, self._send, self._next_looks).begin()

    def _next_looks(self, key: Key) -> list[tuple[dict[str, Any], Take]]:
        """The questions about what can start once this is done, so that it need not be asked of the machine then."""
        resources = self._run.manifest.resources
        sudo = resources[key.resource].sudo
        downs = [down for down in self.waits_only_for(key) if down.machine == key.machine and down.resource in resources]
        downs = [down for down in downs if resources[down.resource].sudo == sudo]
        self.fresh.update(downs)
        return [item for down in downs for item in self._run.observer.infra_items(down)]

    def has_room(self, step: Step) -> bool:
        """True when the slots that a step needs are free now."""
        task = self._fields(step.key)
        return not isinstance(task, Task) or self.slots[step.key.machine].has_room(step.key, _slots_of(task))

    def _fields(self, key: Key) -> Any:
        return self._run.manifest.resources[key.resource].fields_on(key.machine)

    def _entry(self, key: Key) -> Entry:
        known = self._run.state.state.entries.get(key)
        return known or Entry(key, self._run.manifest.resources[key.resource].kind)

    def _adopt(self, step: Step, decision: Decision, wanted: Fingerprint) -> Outcome:
        entry, attempt = self._entry(step.key), decision.attempt
        act: Callable[[], None] | None = None
        if attempt is not None:
            result = replace(self._result_of(attempt, Origin.ADOPTED), fingerprint=wanted)
            act = self._ack_later(step.key, attempt.number)
        else:
            outputs, infra = self._found_outputs(step.key), found(self._run, step.key)
            result = Result(wanted, outputs, self.run, self.clock(), origin=Origin.FOUND, **infra)
        event = StepEvent(step.key, "adopted", self.clock(), note=decision.reason.text, outputs=result.outputs)
        entry = replace(entry, in_force=result, current=None)
        return Outcome(step.key, "adopted", entry, decision.reason.text, (event,), act, word="adopted")

    def _result_of(self, attempt: Attempt, origin: Origin) -> Result:
        """The result that an attempt proves; what its quality gate said of a value that was printed is masked."""
        result = result_of(attempt, origin)
        gate = {key: self._run.vault.mask(str(result.summary[key])) for key in (GATE,) if key in result.summary}
        return replace(result, summary={**result.summary, **gate})

    def _found_outputs(self, key: Key) -> dict[str, OutputProof]:
        fields = self._fields(key)
        found = {}
        for output in fields.outputs if isinstance(fields, Task) else ():
            tree = self._run.observed.inputs[key.machine, output.path]
            found[output.path] = OutputProof(None if output.volatile else tree.root, tree.files, tree.size_bytes)
        return found

    def _attach(self, step: Step, decision: Decision, wanted: Fingerprint) -> Outcome:
        attempt = decision.attempt
        assert attempt is not None
        entry = self._entry(step.key)
        current = Current(wanted, attempt.run, attempt.number, attempt.started_utc, Status.RUNNING, log=f"{attempt.folder}/log")
        what = None if entry.current is not None and entry.current.attempt == attempt.number else "attached"
        work = Work(step, wanted, time.monotonic(), attempt.number)
        event = StepEvent(step.key, "attached", self.clock(), note=decision.reason.text)
        machine, which = step.key.machine, {"resource": step.key.resource, "number": attempt.number}
        since_s = self._run.fleet.unheard_s.get(machine)

        def act() -> None:
            self._send(machine, "log", show, **which, **{"from": -MISSED_BYTES, "max": MISSED_BYTES, "since_s": since_s})

        def show(reply: Message) -> list[Outcome]:
            self._send(machine, "attach", lambda reply: [], **which)
            return [Outcome(step.key, events=missed(step.key, self.clock(), bytes(reply.data), since_s, self._run.vault.mask))]

        return Outcome(step.key, what, replace(entry, current=current), events=(event,), act=act, work=work)

    def _start(self, step: Step, decision: Decision, wanted: Fingerprint) -> Outcome:
        run, key = self._run, step.key
        resource = run.manifest.resources[key.resource]
        number = 1 + max(self._taken.get(key, 0), *(attempt.number for attempt in run.observed.attempts_of(key)), 0)
        entry = self._entry(key)
        config = run.observer.found.configs.get(key)
        files = run.observed.code.get(key, {}) if config is not None else {}
        start = Start(
            key=key, resource=resource, machine=run.manifest.machines[key.machine], wanted=wanted, action=decision.action,
            number=number, run=run.id, total=self.slots[key.machine].total, config=config.text if config else None,
            stamps=run.observer.stamps_of(key), absent={*run.observer.inputs.absent(key), *run.observer.sent.get(key, ())},
            workdir=str(run.fleet.agents[key.machine].hello["workdir"]),
            python=run.observer.python_of(key), code=self._code.ensure(key.machine, files) if files else None,
        )  # fmt: skip
        current = Current(wanted, run.id, number, self.clock(), Status.RUNNING)
        note = decision.reason.text if decision.action is not Action.RUN else ""
        last = entry.in_force.seconds if entry.in_force else None
        event = StepEvent(key, "running", self.clock(), note=note, seconds=last)
        work = Work(step, wanted, time.monotonic(), number)

        def act() -> None:
            self._cancel_before(key, decision)
            body = request(start, run.state.state.lineage)
            body["env"] = run.vault.environment(body["env"])
            body["secrets"] = run.vault.inside(body["env"]) if body["quality_gate"] else []
            self._send(key.machine, "start", lambda reply: self._started(work, reply, entry), **body)

        return Outcome(key, "starting", replace(entry, current=current), decision.reason.text, (event,), act, work)

    def _cancel_before(self, key: Key, decision: Decision) -> None:
        """`--replace`: the attempt of the other fingerprint is ended before the new one is asked for, which waits out its grace."""
        old = decision.attempt
        if old is not None and decision.reason.code == "replaced":
            agent = self._run.fleet.agents[self._machine_of(old)]
            try:
                agent.request("signal", resource=old.resource, number=old.number)
                self._replaced.add(key)
            except AgentError as error:
                self._run.report(NoteEvent(f"attempt {old.number} of {old.resource} could not be ended: {error.message}"))

    def _machine_of(self, attempt: Attempt) -> str:
        for name, view in self._run.observed.machines.items():
            if attempt in view.attempts:
                return name
        raise KeyError(attempt.folder)

    def _started(self, work: Work, reply: Message, before: Entry) -> list[Outcome]:
        error = reply.error
        if error is None:
            return []
        key = work.step.key
        if error.code == "held":
            return self.lost(key.machine, f"{key.machine} is not ours any more: {error.message}")
        if error.code == "no-slot" or (error.code == "busy" and key in self._replaced):
            self.slots[key.machine].refuse(key)
            event = StepEvent(key, "waiting", self.clock(), note=error.message)
            return [Outcome(key, "waiting", before, error.message, (event,), waits=True)]
        if error.code in OVERTAKEN and self._tries[key] < MAX_TRIES:
            self._tries[key] += 1
            self._send(key.machine, "attempts", lambda found: self._look_again(key, found), resource=key.resource, any_lineage=True)
            return []
        return [self._fail(work, ExitClass.ERROR.value, f"did not start: {error.message}", (), "")]

    def _look_again(self, key: Key, reply: Message) -> list[Outcome]:
        """An attempt that we did not know was made meanwhile: see what it is, and judge the step anew."""
        found = reply.body.get("attempts") or ()
        self._taken[key] = max((raw["number"] for raw in found), default=0)
        view = self._run.observed.machines[key.machine]
        others = tuple(attempt for attempt in view.attempts if attempt.resource != key.resource)
        mine = tuple(attempt_of(raw) for raw in found if self._run.fleet.continues(raw))
        machines = {**self._run.observed.machines, key.machine: replace(view, attempts=others + mine)}
        self._run.observed = replace(self._run.observed, machines=machines)
        return [Outcome(key, again=True)]

    def _send(self, machine: str, verb: str, reply: Reply, **args: Any) -> None:
        """Ask a machine; one that was lost in between is not asked, and lost() has told what becomes of its steps."""
        agent = self._run.fleet.agents.get(machine)
        if agent is not None:
            self._replies[machine, agent.queue(verb, **args)] = reply

    def take(self, machine: str, message: Message) -> list[Outcome]:
        """The outcomes that follow from one message of a machine."""
        if message.kind == "closed":
            return self.lost(machine, f"{machine} does not answer: {message.body.get('why') or 'its agent ended'}")
        if message.kind in ("reply", "data", "end"):
            moved = self.moves.take(machine, message)
            return self._answer(machine, message) if moved is None else moved
        attempt = attempt_of(message.body)
        mine = self.work.get(Key(attempt.resource, machine))
        if mine is None or mine.number != attempt.number:
            return []
        if message.body.get("event") == "ended":
            return self._end(mine, attempt, int(message.body.get("log_bytes") or 0))
        note = "its supervisor was killed; waiting for the task itself to end"
        return [Outcome(mine.step.key, events=(StepEvent(mine.step.key, "unsupervised", self.clock(), note=note),))]

    def _answer(self, machine: str, message: Message) -> list[Outcome]:
        """A reply goes to who asked, with its data once all of it is there."""
        place = (machine, message.id)
        if message.kind == "reply" and not message.body.get("data"):
            reply = self._replies.pop(place, None)
            return reply(message) if reply else []
        if message.kind == "reply":
            self._parts[place] = (message, [])
        elif message.kind == "data" and place in self._parts:
            self._parts[place][1].append(message.data)
        elif message.kind == "end" and place in self._parts:
            first, parts = self._parts.pop(place)
            reply = self._replies.pop(place, None)
            return reply(replace(first, data=b"".join(parts))) if reply else []
        return []

    def _end(self, work: Work, attempt: Attempt, log_bytes: int) -> list[Outcome]:
        """An attempt has a proven end (or is proven dead): fetch its log if there is one, then judge."""
        if log_bytes == 0:
            return [self._judge_end(work, attempt, "")]
        key = work.step.key

        def reply(message: Message) -> list[Outcome]:
            return [self._judge_end(work, attempt, bytes(message.data).decode("utf-8", "replace"))]

        args = {"resource": key.resource, "number": attempt.number, "from": -LOG_LIMIT_BYTES, "max": LOG_LIMIT_BYTES}
        self._send(key.machine, "log", reply, **args)
        return []

    def _judge_end(self, work: Work, attempt: Attempt, log: str) -> Outcome:
        key = work.step.key
        log = self._run.vault.mask(log)
        path = self._keep_log(key, attempt, log)
        end = attempt.exit
        if end is None:
            return self._fail(work, ExitClass.LOST.value, "ended without a proof (its supervisor was killed)", tail(log), path)
        detail = self._run.vault.mask(end.detail)
        if not end.ok:
            return self._fail(work, end.exit_class.value, detail, tail(log), path, end.seconds)
        result = replace(self._result_of(attempt, Origin.MADE), fingerprint=work.wanted, run=self.run)
        event = StepEvent(key, "done", self.clock(), note=detail, seconds=end.seconds, outputs=result.outputs, log=path)
        entry = replace(self._entry(key), in_force=result, current=None)
        return Outcome(key, "done", entry, events=(event,), act=self._ack_later(key, attempt.number), word="done")

    def _fail(
        self, work: Work, exit_class: str, detail: str, tail: tuple[str, ...], log: str, seconds: float | None = None
    ) -> Outcome:
        key, now = work.step.key, self.clock()
        entry = self._entry(key)
        since = entry.current.since_utc if entry.current else now
        current = Current(work.wanted, self.run, work.number, since, Status.FAILED, exit_class, detail, log, now)
        event = StepEvent(key, "FAILED", now, note=detail, seconds=seconds, tail=tail, log=log)
        word = "cancelled" if exit_class == ExitClass.CANCELLED.value else "failed"
        act = self._ack_later(key, work.number) if work.number else None
        return Outcome(key, "failed", replace(entry, current=current), detail, (event,), act, word=word, failed=True)

    def _keep_log(self, key: Key, attempt: Attempt, log: str) -> str:
        path = self._run.state.log_path(self.run, key, attempt.number)
        return keep(self._run, path, log, key.resource, f"{attempt.folder}/log", key.machine)

    def _ack_later(self, key: Key, number: int) -> Callable[[], None]:
        def act() -> None:
            self._send(key.machine, "ack", lambda reply: [], resource=key.resource, number=number)

        return act

    def lost(self, machine: str, why: str) -> list[Outcome]:
        """A machine is not ours any more: its attempts live on as far as we know, other work may be half done; all stays recorded."""
        run = self._run
        error = UnreachableError.of("unreachable", why)
        assert isinstance(error, UnreachableError)
        run.fleet.lose(machine, error)
        gone = replace(run.observed.machines[machine], error=run.fleet.errors[machine])
        run.observed = replace(run.observed, machines={**run.observed.machines, machine: gone})
        waiting, self.slots[machine].refused = self.slots[machine].refused, {}
        outcomes = [Outcome(key, again=True) for key in waiting]
        moving = {key for key in self.work if key in self.moves}
        outcomes += self.moves.lost(machine, why)
        for key in self.work.keys() - moving:
            if key.machine == machine:
                after = "the attempt goes on by itself" if self.work[key].number else HALF_WAY
                fails = run.manifest.policy.fails_unreachable
                event = StepEvent(key, "FAILED" if fails else "unknown", self.clock(), note=f"{why}; {after}")
                word = "failed" if fails else "unreachable"
                outcomes.append(Outcome(key, entry=self._entry(key), word=word, failed=True, events=(event,)))
        return outcomes

    def cancel(self) -> None:
        """End every move, and every running attempt; their ends arrive as usual."""
        self.moves.cancel()
        for key, mine in self.work.items():
            if mine.number:
                self._send(key.machine, "signal", lambda reply: [], resource=key.resource, number=mine.number)

    def grace_is_over(self) -> bool:
        """True when the user asked to leave and had the time to ask for more."""
        if self._leaving_since is None:
            self._leaving_since = time.monotonic()
        return time.monotonic() - self._leaving_since > LEAVE_GRACE_S


def _slots_of(task: Task) -> Slots:
    needs = task.needs
    return Slots(task.gpus or 0, DEFAULT["cpu"] if needs.cpu is None else needs.cpu, needs.memory, task.gpu_device)
