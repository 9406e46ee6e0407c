"""Judge: gathers the facts of each resource in graph order and asks decide(). Pure: it looks only at what was observed.

The same judge serves `plan` (everything not yet done) and `apply` (each step again when it is ready, with what its
producers made by then), so the two cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.observed import Observed, StageAnswer, Stored, Tree, Verified
from albor_pipeline.model.plan import Action, Move, Plan, Reason, Step
from albor_pipeline.model.resource import Key, Resource
from albor_pipeline.model.state import Entry, Origin, OutputProof, Result, State
from albor_pipeline.plan import checks, fingerprint, moves
from albor_pipeline.plan.decide import Decision, Facts, decide, masked
from albor_pipeline.plan.graph import Graph, targets_of
from albor_pipeline.plan.inputs import Input, Inputs
from albor_pipeline.resources.registry import convergent
from albor_pipeline.resources.task import Task

SETTLED = (Action.SKIP, Action.ADOPT, Action.RESTORE, Action.FETCH, Action.LEAVE)
GATE = "gate"  # in the summary of a result: why its quality gate was not passed
HOLDING = (Action.CONFLICT, Action.HOLD, Action.UNKNOWN)


@dataclass(frozen=True)
class Options:
    """What the command line asked for; `targets` None means everything, `no_move` that nothing goes from machine to machine."""

    targets: frozenset[Key] | None = None
    force: frozenset[Key] = frozenset()
    replace: frozenset[Key] = frozenset()
    estimates: Mapping[Key, float] = field(default_factory=dict)
    no_move: bool = False
    prune: bool = False


class Judge:
    """Decides for one resource after another; `note()` tells it what became of each."""

    def __init__(
        self, manifest: Manifest, graph: Graph, state: State, observed: Observed, options: Options, inputs: Inputs | None = None
    ) -> None:
        self.manifest = manifest
        self.graph = graph
        self.observed = observed
        self.options = options
        self.inputs = inputs or Inputs(manifest, graph)
        self._entries = dict(state.entries)
        self._foreign = {
            name for name, view in observed.machines.items()
            if name in state.machine_ids and view.machine_id and view.machine_id != state.machine_ids[name]
        }  # fmt: skip
        self._settled: dict[Key, bool] = {}
        self._held: set[Key] = set()
        self._gated: dict[Key, str] = {}
        self._roots: dict[tuple[Key, str], str] = {}
        self._changed: set[Key] = set()

    def note(self, key: Key, entry: Entry | None, *, settled: bool, held: bool = False) -> None:
        """What became of a resource: settled means that its outputs are the ones of `entry`."""
        before = self._entries.get(key)
        result = entry.in_force if entry is not None else None
        if settled and result is not None and result.origin is Origin.MADE and (before is None or before.in_force != result):
            self._changed.add(key)
        self._settled[key] = settled
        self._held.discard(key)
        if held:
            self._held.add(key)
        if entry is None:
            self._entries.pop(key, None)
            return
        self._entries[key] = entry
        if settled and entry.in_force is not None:
            self._made_known(key, entry.in_force.outputs)
            self._see_gate(key, entry.in_force.summary)

    def _see_gate(self, key: Key, summary: Mapping[str, Any]) -> None:
        """Take in whether what depends on a task is kept back by what its quality gate said of the result in force."""
        resource = self.manifest.resources.get(key.resource)
        task = resource.fields_on(key.machine) if resource is not None else None
        gate = task.quality_gate if isinstance(task, Task) else None
        self._gated.pop(key, None)
        if gate is not None and gate.on_fail == "skip_dependents" and summary.get(GATE):
            self._gated[key] = str(summary[GATE])

    def judge(self, key: Key, observed: Observed | None = None) -> tuple[Decision, Fingerprint | None]:
        """The decision for one resource now, and the fingerprint it was made with."""
        facts = self.facts(key, observed or self.observed)
        return decide(facts), facts.wanted

    def settle(self, key: Key, decision: Decision) -> None:
        """Take a decision as the outcome, as far as a plan can know it."""
        entry = self._entries.get(key)
        settled = decision.action in SETTLED
        self.note(key, entry, settled=settled, held=decision.action in HOLDING)
        if decision.action is Action.ADOPT and decision.attempt is not None and decision.attempt.exit is not None:
            self._made_known(key, decision.attempt.exit.outputs)
            self._see_gate(key, decision.attempt.exit.summary)
        if decision.stored is not None:
            self._made_known(key, decision.stored.result.outputs)
            self._see_gate(key, decision.stored.result.summary)

    def moves(self, key: Key, wanted: Fingerprint) -> tuple[Move, ...]:
        """What has to be brought to a machine before this step can start there, as far as it is known."""
        return tuple(
            replace(move, size_bytes=self._size(self.inputs.moving(key)[move.path], move.root))
            for move in moves.needed(key, wanted, self.inputs, self.observed)
        )

    def _size(self, item: Input, root: str | None) -> int | None:
        """The bytes of an output as recorded, when it is the one with this digest."""
        entry = self._entries.get(item.makers[0])
        proof = entry.in_force.outputs.get(item.output or "") if entry is not None and entry.in_force is not None else None
        return proof.size_bytes if proof is not None and root is not None and proof.root == root else None

    def _made_known(self, key: Key, outputs: Mapping[str, OutputProof]) -> None:
        for path, proof in outputs.items():
            if proof.root is not None:
                self._roots[key, path] = proof.root

    def facts(self, key: Key, observed: Observed) -> Facts:
        """All that decide() may look at."""
        resource = self.manifest.resources.get(key.resource)
        entry = self._entries.get(key)
        machine = observed.machines.get(key.machine)
        declared = resource is not None and key in self.graph.before
        held = tuple(up.resource for up in self.graph.before.get(key, ()) if up in self._held)
        upstream: tuple[str, ...] = ()
        wanted: Fingerprint | None = None
        stirred: tuple[str, ...] = ()
        if declared and resource is not None:
            if isinstance(resource.fields_on(key.machine), Task):
                wanted, upstream = self._wanted_task(key, observed)
            else:
                identity = convergent(resource.kind).identity(resource.fields_on(key.machine))
                wanted = fingerprint.of_fields(observed.wanted.get(key, {}), identity)
            triggers = self._triggers(resource, key)
            wanted = fingerprint.triggered(wanted, triggers)
            stirred = tuple(name for name in triggers if self._stirs(name, key))
            upstream = (*upstream, *(name for name, proof in triggers.items() if proof is None and name not in upstream))
        result = entry.in_force if entry else None
        return Facts(
            key=key,
            kind=resource.kind if resource else (entry.kind if entry else "task"),
            wanted=wanted,
            entry=entry,
            attempts=observed.attempts_of(key),
            outputs={path: observed.outputs[key, path] for path in (result.outputs if result else ()) if (key, path) in observed.outputs},
            made=self._made(key, observed),
            observation=masked(observed.infra.get(key), wanted, entry, resource.ignore_drift if resource else ()),
            completed=observed.completed.get(key, False),
            unreachable=machine.error if machine else None,
            foreign=key.machine in self._foreign,
            upstream=upstream,
            pending=tuple(up.resource for up in self.graph.before.get(key, ()) if not self._settled.get(up, False)),
            held_by=held,
            gated={up.resource: self._gated[up] for up in self.graph.before.get(key, ()) if up in self._gated},
            force=key in self.options.force,
            replace=key in self.options.replace,
            stored=self._stored(key, wanted, observed),
            unexplained=self._unexplained(key, observed) if entry is None else (),
            heals=self.manifest.policy.drift == "heal",
            precious=convergent(resource.kind).precious if resource is not None and key in observed.infra else (),
            prune=self.options.prune,
            stirred=stirred,
            declared_as=self._declared_as(key, entry, observed) if not declared and self.options.prune else "",
            reachable=machine is not None and machine.error is None,
            on_new=machine is not None and machine.is_new,
        )

    def _triggers(self, resource: Resource, key: Key) -> dict[str, str | None]:
        """What tells each trigger's present result from any other of it; None while it may still change."""
        found: dict[str, str | None] = {}
        for up in (up for ref in resource.triggers for up in targets_of(ref, key.machine, self.manifest)):
            entry = self._entries.get(up)
            result = entry.in_force if entry is not None else None
            known = self._settled.get(up, False) and result is not None
            name = up.resource if up.machine == key.machine else str(up)
            found[name] = f"{result.run} {result.at_utc}" if known and result is not None else None
        return found

    def _stirs(self, name: str, key: Key) -> bool:
        """Whether a trigger was made or changed in this very run."""
        resource, _at, machine = name.partition("@")
        return Key(resource, machine or key.machine) in self._changed

    def _declared_as(self, key: Key, entry: Entry | None, observed: Observed) -> str:
        """The resource that declares the very thing which is recorded under another name; empty when none does."""
        result = entry.in_force if entry is not None else None
        place = result.fingerprint.parts.get("place") if result is not None else None
        for other, wanted in observed.wanted.items():
            resource = self.manifest.resources[other.resource]
            if result is None or other.machine != key.machine or entry is None or resource.kind != entry.kind:
                continue
            same = convergent(resource.kind).identity(resource.fields_on(other.machine)) == place if place else False
            shared = not place and not {"state"} >= (result.observed.keys() & wanted.keys())
            if same or shared:
                return other.resource
        return ""

    def _stored(self, key: Key, wanted: Fingerprint | None, observed: Observed) -> Stored | None:
        """The result of the wanted fingerprint that can be given back and was last in force."""
        known = observed.stored.get(key)
        if not known or wanted is None or wanted.unknown:
            return None
        if not may_be_kept(self.manifest.resources[key.resource].fields_on(key.machine)):
            return None
        mine = (one for one in known if not one.missing and not wanted.changes(one.result.fingerprint))
        return next(reversed(list(mine)), None)

    def _unexplained(self, key: Key, observed: Observed) -> tuple[str, ...]:
        """Declared outputs that are there although nothing is recorded of them."""
        resource = self.manifest.resources.get(key.resource)
        task = resource.fields_on(key.machine) if resource is not None else None
        found = (output.path for output in task.outputs if not output.volatile) if isinstance(task, Task) else ()
        return tuple(path for path in found if observed.inputs.get((key.machine, path), Tree(None)).found)

    @staticmethod
    def _made(key: Key, observed: Observed) -> dict[str, Verified]:
        """The outputs of the newest attempt as they were compared, where they were."""
        newest = next(iter(observed.attempts_of(key)), None)
        paths = newest.exit.outputs if newest is not None and newest.exit is not None else ()
        return {path: observed.made[key, newest.number, path] for path in paths if newest and (key, newest.number, path) in observed.made}

    def _wanted_task(self, key: Key, observed: Observed) -> tuple[Fingerprint, tuple[str, ...]]:
        roots: dict[str, str | None] = {}
        upstream: list[str] = []
        for item in self.inputs.of(key):
            root = self._root(item, key, observed)
            roots[item.path] = root
            open_makers = (up.resource for up in item.makers if not self._settled.get(up, False))
            upstream += [name for name in open_makers if root is None and name not in upstream]
        resource = self.manifest.resources[key.resource]
        return fingerprint.of_task(resource, key, observed, roots), tuple(upstream)

    def _root(self, item: Input, key: Key, observed: Observed) -> str | None:
        if not all(self._settled.get(up, False) for up in item.makers):
            return None
        if item.output is not None:
            return self._roots.get((item.makers[0], item.output))
        tree = observed.inputs.get((key.machine, item.path))
        return (tree.root or "missing") if tree is not None else None


def may_be_kept(fields: object) -> bool:
    """Whether a result may be given back in place of a run: not without outputs, and not where `cache: false` says no."""
    return isinstance(fields, Task) and fields.cache and any(not output.volatile for output in fields.outputs)


def make_plan(
    manifest: Manifest, graph: Graph, state: State, observed: Observed, options: Options, inputs: Inputs | None = None
) -> Plan:
    """The plan: a step for every resource in reach, in graph order, then what is no longer declared."""
    judge = Judge(manifest, graph, state, observed, options, inputs)
    chosen = graph.closure(options.targets) if options.targets is not None else frozenset(graph.order)
    steps: list[Step] = []
    for key in graph.order:
        if key in chosen:
            decision, wanted = judge.judge(key)
            judge.settle(key, decision)
            steps.append(_step(judge, key, decision, wanted, state))
    if options.targets is None:
        steps += _undeclared(judge, set(state.entries) - set(graph.before), state, [step.key for step in steps if step.changes])
    seconds = {step.key: step.seconds for step in steps if step.seconds}
    active = frozenset(step.key for step in steps if step.changes and step.key in graph.before)
    chain, total = graph.longest_chain(seconds, active)
    return Plan(
        pipeline=manifest.name,
        manifest=manifest.path,
        steps=tuple(steps),
        machines=tuple(sorted({step.key.machine for step in steps})),
        last_run=state.last_run,
        last_run_utc=state.last_run_utc,
        unreachable={name: view.error for name, view in observed.machines.items() if view.error is not None},
        longest_chain=chain if total > 0 else (),
        longest_chain_s=total or None,
        diagnostics=(
            *checks.of_steps(manifest, graph, observed, judge.inputs, steps, outdated(judge, state, steps)),
            *moves.problems(manifest, graph, judge.inputs, steps, no_move=options.no_move),
        ),
    )


def _undeclared(judge: Judge, keys: Iterable[Key], state: State, first: Sequence[Key]) -> list[Step]:
    """What is recorded and declared no more: forgotten; what is taken away goes when all else is done, the youngest first.

    Nothing goes from a machine where a task that is declared no more still runs: it may need it.
    """
    steps = [_step(judge, key, judge.judge(key)[0], None, state) for key in sorted(keys)]
    busy = {step.key.machine for step in steps if step.reason.code == "undeclared-alive"}
    wait = Reason("undeclared-alive", "a task that is no longer declared still runs there")
    steps = [
        replace(step, action=Action.HOLD, allowed=(Action.HOLD,), reason=wait)
        if step.action is Action.DESTROY and step.key.machine in busy else step
        for step in steps
    ]  # fmt: skip
    going = [step for step in steps if step.action is Action.DESTROY]
    return [step for step in steps if step.action is not Action.DESTROY] + youngest_first(going, state, first)


def youngest_first(going: Sequence[Step], state: State, first: Sequence[Key]) -> list[Step]:
    """The steps one after the other in the reverse order of their making, the first of them after all of `first`."""

    def since(step: Step) -> str:
        entry = state.entries[step.key]
        return entry.in_force.at_utc if entry.in_force is not None else entry.current.since_utc if entry.current is not None else ""

    ordered = sorted(going, key=since, reverse=True)
    return [replace(step, after=tuple(first)) for step in ordered[:1]] + [
        replace(step, after=(before.key,)) for before, step in pairwise(ordered)
    ]


def outdated(judge: Judge, state: State, steps: Iterable[Step]) -> frozenset[Key]:
    """The steps whose inputs lie there from an earlier run and will be made anew before they start."""
    made = {key for key, entry in state.entries.items() if entry.in_force is not None}
    waiting = (step for step in steps if step.fingerprint is not None and step.fingerprint.unknown)
    return frozenset(step.key for step in waiting if any(up in made for item in judge.inputs.of(step.key) for up in item.makers))


def _step(judge: Judge, key: Key, decision: Decision, wanted: Fingerprint | None, state: State) -> Step:
    entry = state.entries.get(key)
    resource = judge.manifest.resources.get(key.resource)
    result = entry.in_force if entry else None
    return Step(
        key=key,
        kind=resource.kind if resource else (entry.kind if entry else "task"),
        action=decision.action,
        allowed=decision.allowed,
        reason=decision.reason,
        after=judge.graph.before.get(key, ()),
        fingerprint=wanted,
        seconds=result.seconds if result else judge.options.estimates.get(key),
        disk_bytes=_disk_bytes(judge.observed.stages.get(key), result, decision.action),
        loses=decision.loses,
        moves=judge.moves(key, wanted) if decision.action.executes and wanted is not None else (),
    )


def _disk_bytes(answer: StageAnswer | None, result: Result | None, action: Action) -> float | None:
    """What a run will write: outputs and checkpoints as its stage says, else as much as the outputs of last time.

    None for a stage that goes on: some of it is there, and the stage, which finds how much, checks the room before it starts.
    """
    if answer is not None and "disk_bytes" in answer.estimates:
        return None if action in (Action.RESUME, Action.RETRY) else answer.estimates["disk_bytes"]
    return sum(proof.size_bytes for proof in result.outputs.values()) if result is not None else None

