"""Undo: the plan that takes away what was made, dependents first, and forgets it. Pure; what is still declared is not touched by it."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator
from dataclasses import replace

from albor_pipeline.errors import Diagnostic, ManifestError
from albor_pipeline.model.attempt import Liveness
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.observed import Observed
from albor_pipeline.model.plan import Action, Plan, Reason, Step
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Entry, State
from albor_pipeline.plan.decide import Decision
from albor_pipeline.plan.graph import Graph
from albor_pipeline.plan.judge import youngest_first

LIVE = (Liveness.ALIVE, Liveness.UNSUPERVISED, Liveness.UNKNOWN)


class Undoing:
    """Decides for the executor as it was planned: nothing that happens meanwhile changes what is to go."""

    def __init__(self, plan: Plan) -> None:
        self._steps = {step.key: step for step in plan.steps}
        self._held: set[Key] = set()

    def judge(self, key: Key, observed: Observed) -> tuple[Decision, Fingerprint | None]:
        """The planned action; a machine that was lost since makes it unknown."""
        step = self._steps[key]
        view = observed.machines.get(key.machine)
        if view is not None and view.error is not None:
            return Decision(Action.UNKNOWN, (Action.UNKNOWN,), Reason("unreachable", f"{key.machine} does not answer")), None
        held = sorted(up.resource for up in step.after if up in self._held)
        if held:
            return Decision(Action.HOLD, (Action.HOLD,), Reason("held", f"{', '.join(held)} may need it")), None
        return Decision(step.action, step.allowed, step.reason), None

    def note(self, key: Key, entry: Entry | None, *, settled: bool, held: bool = False) -> None:
        """What is held holds all that it needs."""
        if held:
            self._held.add(key)


def make_undo_plan(
    manifest: Manifest, graph: Graph, state: State, observed: Observed, targets: frozenset[Key] | None, going: Collection[str] = ()
) -> Plan:
    """A step for each recorded resource, or for the targets and all that needs them, in the reverse order of their making.

    What is on machines that are going themselves goes with them.

    Raises ManifestError naming all that may never be destroyed.
    """
    chosen = graph.dependents(targets) if targets is not None else frozenset(state.entries)
    keys = [key for key in reversed(graph.order) if key in chosen and key in state.entries]
    strangers = sorted(chosen & state.entries.keys() - set(keys))
    prevented = [item for key in (*strangers, *keys) for item in _prevented(manifest, key, state.entries[key])]
    if prevented:
        raise ManifestError(prevented)
    ids = {name: view.machine_id for name, view in observed.machines.items() if view.machine_id}
    foreign = {name for name, machine_id in ids.items() if state.machine_ids.get(name, machine_id) != machine_id}
    steps = [_step(graph, key, state.entries[key], observed, frozenset(keys), foreign) for key in (*strangers, *keys)]
    steps = [_with_machine(step) if step.key.machine in going else step for step in steps]
    steps = [*youngest_first(steps[: len(strangers)], state, ()), *steps[len(strangers) :]]
    return Plan(
        manifest.name, manifest.path, tuple(steps), tuple(sorted({step.key.machine for step in steps})), state.last_run, state.last_run_utc,
        unreachable={name: view.error for name, view in observed.machines.items() if view.error is not None},
    )  # fmt: skip


def _prevented(manifest: Manifest, key: Key, entry: Entry) -> Iterator[Diagnostic]:
    resource = manifest.resources.get(key.resource)
    if resource.prevent_destroy if resource is not None else entry.removal.get("prevented"):
        note = "take `prevent_destroy` out of its `lifecycle` first, or choose what may go: --target"
        span = resource.spans.get("lifecycle", resource.span) if resource is not None else None
        yield Diagnostic("error", "prevented", f"`{key}` may never be destroyed", span, notes=(note,))


def _step(graph: Graph, key: Key, entry: Entry, observed: Observed, going: frozenset[Key], foreign: Container[str]) -> Step:
    action, reason = _decided(key, entry, observed)
    if key.machine in foreign and action is Action.DESTROY:
        action, reason = Action.FORGET, Reason("foreign", f"forgotten; {key.machine} is another machine, and nothing of it is touched")
    after = tuple(down for down in graph.after.get(key, ()) if down in going)
    return Step(key, entry.kind, action, (action,), reason, after)


def _with_machine(step: Step) -> Step:
    reason = Reason("machine", f"it goes with the container of {step.key.machine}")
    return replace(step, action=Action.FORGET, allowed=(Action.FORGET,), reason=reason)


def _decided(key: Key, entry: Entry, observed: Observed) -> tuple[Action, Reason]:
    view = observed.machines.get(key.machine)
    if view is None or view.error is not None:
        return Action.UNKNOWN, Reason("unreachable", f"{key.machine} does not answer")
    if any(attempt.liveness in LIVE for attempt in observed.attempts_of(key)):
        return Action.HOLD, Reason("alive", f"it is running: `cancel {key.resource}` first")
    if entry.kind == "task":
        return Action.FORGET, Reason("task", "forgotten; its outputs stay where they are")
    if not entry.removal:
        return Action.FORGET, Reason("nothing-made", "forgotten; nothing of it was recorded as made")
    if entry.removal.get("found"):
        return Action.FORGET, Reason("found", f"forgotten; the {entry.kind} was there before, and stays")
    return Action.DESTROY, Reason("destroy", f"the {entry.kind} is taken away")
