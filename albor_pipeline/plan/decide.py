"""decide(): the one place that says whether a resource runs, and why. Pure: no I/O, no clock, no order of calls.

The rows of the table are functions tried in order; each returns a Decision or None. `plan` calls decide() with inputs that
may still be unknown; `apply` calls it again when the step is ready and may only pick from what the plan allowed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from albor_pipeline.model.attempt import Attempt, ExitClass, Liveness
from albor_pipeline.model.fingerprint import Fingerprint, PartChange
from albor_pipeline.model.observed import Observation, Stored, Verified
from albor_pipeline.model.plan import Action, Reason
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Current, Entry, Result, Status
from albor_pipeline.plan import reasons


@dataclass(frozen=True)
class Facts:
    """All that decide() may look at, for one resource on one machine.

    `upstream` are the names that this waits for to know its fingerprint, `pending` those that may change its machine first, `gated`
    says of each whose quality gate this waits for why it was not passed.
    """

    key: Key
    kind: str = "task"
    wanted: Fingerprint | None = None
    entry: Entry | None = None
    attempts: tuple[Attempt, ...] = ()
    outputs: Mapping[str, Verified] = field(default_factory=dict)
    made: Mapping[str, Verified] = field(default_factory=dict)
    observation: Observation | None = None
    completed: bool = False
    unreachable: str | None = None
    foreign: bool = False
    stored: Stored | None = None
    upstream: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    held_by: tuple[str, ...] = ()
    gated: Mapping[str, str] = field(default_factory=dict)
    force: bool = False
    replace: bool = False
    unexplained: tuple[str, ...] = ()
    heals: bool = True
    precious: tuple[str, ...] = ()
    prune: bool = False
    stirred: tuple[str, ...] = ()
    declared_as: str = ""
    reachable: bool = True
    on_new: bool = False

    @property
    def failed(self) -> Current | None:
        """The attempt that failed, when it was of the wanted fingerprint."""
        current = self.entry.current if self.entry and not self.foreign else None
        if current is None or current.status is not Status.FAILED or self.wanted is None:
            return None
        return None if self.wanted.changes(current.fingerprint) else current

    @property
    def cut(self) -> Attempt | None:
        """The newest attempt, when it was of the wanted fingerprint and has no proven end."""
        newest = self.attempts[0] if self.attempts else None
        if newest is None or self.wanted is None or not _was_cut(newest):
            return None
        return None if self.wanted.changes(Fingerprint(newest.parts)) else newest

    @property
    def ended_badly(self) -> Attempt | None:
        """The newest attempt, when it was of the wanted fingerprint and failed with a proof that the state does not hold yet."""
        newest = self.attempts[0] if self.attempts else None
        if newest is None or self.wanted is None or newest.exit is None or newest.exit.ok or _was_cut(newest):
            return None
        return None if self.wanted.changes(Fingerprint(newest.parts)) else newest


@dataclass(frozen=True)
class Decision:
    """The action shown, what may be picked when ready, and the reason; with the attempt to attach to or adopt, or the result to restore."""

    action: Action
    allowed: tuple[Action, ...]
    reason: Reason
    attempt: Attempt | None = None
    changes: tuple[PartChange, ...] = ()
    stored: Stored | None = None
    loses: bool = False


def decide(facts: Facts) -> Decision:
    """The first row that applies."""
    decision = next(found for row in (ROWS if facts.kind == "task" else INFRA_ROWS) if (found := row(facts)) is not None)
    if not facts.heals and decision.reason.code in DRIFT and not decision.changes:
        text = f"{decision.reason.text}; left as it is"
        return (_when_ready if facts.pending else _decision)(Action.LEAVE, decision.reason.code, text)
    return decision


def _decision(action: Action, code: str, text: str, *instead: Action, attempt: Attempt | None = None) -> Decision:
    return Decision(action, (*instead, action), Reason(code, text), attempt)


def _undeclared(f: Facts) -> Decision | None:
    if f.wanted is not None:
        return None
    live = _live(f)
    if live is not None:
        return _decision(Action.HOLD, "undeclared-alive", "still running, no longer declared", attempt=live)
    if f.kind == "task":
        return _decision(Action.FORGET, "undeclared", "no longer declared")
    removal = f.entry.removal if f.entry is not None else {}
    if f.foreign:
        return _decision(Action.FORGET, "foreign", f"{f.key.machine} is another machine; nothing of it is touched")
    if f.declared_as:
        return _decision(Action.FORGET, "undeclared", f"declared as {f.declared_as} now")
    if f.prune and removal.get("prevented"):
        return _decision(Action.HOLD, "prevented", "no longer in the manifest; when it was, `prevent_destroy` was true")
    if removal.get("found"):
        return _decision(Action.FORGET, "undeclared", f"no longer in the manifest; the {f.kind} was there before, and stays")
    if f.prune and removal and not f.reachable:
        text = f"no longer in the manifest, and {f.key.machine} cannot be asked: only `state rm` forgets it"
        return _decision(Action.HOLD, "nowhere", text)
    if f.prune and removal:
        return _decision(Action.DESTROY, "undeclared", "no longer in the manifest")
    return _decision(Action.FORGET, "undeclared", f"no longer in the manifest; the {f.kind} itself is kept")


def _unreachable(f: Facts) -> Decision | None:
    if f.unreachable is None:
        return None
    return _decision(Action.UNKNOWN, "unreachable", f"{f.key.machine} does not answer")


def _running(f: Facts) -> Decision | None:
    live = _live(f)
    if live is None or f.wanted is None:
        return None
    if live.liveness is Liveness.UNKNOWN:
        return _decision(Action.UNKNOWN, "liveness", f"attempt {live.number} runs where it cannot be seen; nothing is assumed")
    changes = f.wanted.changes(Fingerprint(live.parts))
    if not changes and not f.force:
        step = f", step {live.progress['step']}" if "step" in live.progress else ""
        unsupervised = ", unsupervised" if live.liveness is Liveness.UNSUPERVISED else ""
        text = f"running since {live.started_utc[:16].replace('T', ' ')}{step}{unsupervised}"
        return _decision(Action.ATTACH, "alive", text, Action.CONFLICT, Action.ADOPT, Action.RETRY, Action.RESUME, attempt=live)
    if f.replace:
        return Decision(Action.RERUN, (Action.RERUN,), Reason("replaced", "the running attempt is cancelled first"), live, changes)
    what = reasons.of_changes(changes) if changes else "a forced run is wanted"
    change = changes[0] if changes else None
    if change and change.old is not None and change.new is not None and change.group not in reasons.BY_DIGEST:
        what = f"{change.label} {reasons.shown(change.old)} is running, {reasons.shown(change.new)} is wanted"
    name = f.key.resource
    text = f"{what}: `cancel {name}` or `apply --replace {name}`"
    return Decision(Action.CONFLICT, (Action.CONFLICT, Action.ATTACH), Reason("conflict", text), live, changes)


def _held(f: Facts) -> Decision | None:
    """An upstream step that cannot be judged leaves this one alone, unless it needs nothing from it."""
    if not (f.held_by or f.gated):
        return None
    done = f.entry is not None and f.entry.in_force is not None and not f.force
    if done and not f.upstream and _proven_same(f):
        return None
    for name, why in f.gated.items():
        text = f"the quality gate of {name} did not pass: {why}; to judge it anew: apply --target {name} --force"
        return _decision(Action.HOLD, "gate", text)
    return _decision(Action.HOLD, "held", f"waits for {', '.join(f.held_by)}")


def _forced(f: Facts) -> Decision | None:
    if not f.force:
        return None
    return _decision(Action.RERUN, "forced", "--force")


def _finished(f: Facts) -> Decision | None:
    """An attempt of this very fingerprint ended well and the state does not know it: adopt it."""
    wanted, entry = f.wanted, f.entry
    if wanted is None:
        return None
    for attempt in f.attempts:
        end = attempt.exit
        if end is None or not end.ok or wanted.changes(Fingerprint(attempt.parts)):
            continue
        in_force = entry.in_force if entry and not f.foreign else None
        if in_force is not None and (in_force.attempt, in_force.run) == (attempt.number, attempt.run):
            return None
        if in_force is not None and not wanted.changes(in_force.fingerprint):
            return None
        if f.attempts[0] is not attempt or wanted.unknown:
            return None
        broken = _broken(f.made)
        if broken is not None:
            if f.stored is None:
                return _decision(Action.RERUN, broken.code, broken.text)
            replaced_since = entry is not None and entry.current is None
            return None if replaced_since else _restore(f.stored, broken.code, f"{broken.text}; {_made(f.stored)}", Action.RERUN)
        text = f"found on {f.key.machine}, made at {end.at_utc[:16].replace('T', ' ')}"
        return _decision(Action.ADOPT, "finished-attempt", text, attempt=attempt)
    return None


def _unknown_entry(f: Facts) -> Decision | None:
    """Nothing is recorded (or it was recorded of another machine)."""
    if f.entry is not None and not f.foreign and (f.entry.in_force or f.entry.current):
        return None
    if f.completed and not f.upstream:
        return _decision(Action.ADOPT, "already-there", "already there: completion_check passes and the outputs exist", Action.RUN)
    if f.stored is not None and not f.upstream:
        return _restore(f.stored, "stored", f"found on {f.stored.machine or f.key.machine}, {_made(f.stored)}", Action.RUN, Action.ADOPT)
    if f.foreign and f.entry is not None:
        return _decision(Action.RUN, "foreign", f"{f.key.machine} is another machine", Action.ADOPT)
    if f.cut is not None:
        return _interrupted(f.cut)
    if f.unexplained and not f.attempts:
        text = f"new; {f.unexplained[0]} is there already and is kept aside in .albor/kept/"
        return _decision(Action.RUN, "output-unexplained", text, Action.ADOPT)
    return _decision(Action.RUN, "new", "new", Action.ADOPT)


def _in_force(f: Facts) -> Decision | None:
    """The recorded result is of this fingerprint: nothing to do, unless what it made is gone."""
    if not _proven_same(f):
        return None
    later = f.entry.current if f.entry is not None else None
    broken = _broken(f.outputs)
    if (later is not None or broken is not None) and (f.cut or f.failed or f.ended_badly):
        return None
    if later is not None and not f.outputs:
        text = f"attempt {later.attempt} of run {later.run} came after, with other settings"
        return _decision(Action.RERUN, "in-between", text)
    if broken is not None:
        if f.stored is None:
            return _decision(Action.RERUN, broken.code, broken.text)
        kept = "; it is kept aside in .albor/kept/" if broken.code == "output-modified" else ""
        return _restore(f.stored, broken.code, broken.text + kept, Action.RERUN)
    if f.upstream:
        text = f"if {' or '.join(f.upstream)} changes"
        return _decision(Action.MAY_RUN, "upstream", text, Action.SKIP, Action.RESTORE, Action.ADOPT, Action.RERUN)
    return _decision(Action.SKIP, "unchanged", "unchanged")


def _restore(stored: Stored, code: str, text: str, *instead: Action) -> Decision:
    action = Action.FETCH if stored.machine else Action.RESTORE
    return Decision(action, (action, *instead), Reason(code, text), stored=stored)


def _made(stored: Stored) -> str:
    where = f" on {stored.machine}" if stored.machine else ""
    return f"made{where} in run {stored.result.run} at {stored.result.at_utc[:16].replace('T', ' ')}"


def masked(seen: Observation | None, wanted: Fingerprint | None, entry: Entry | None, ignored: Collection[str]) -> Observation | None:
    """The observation with fields whose drift is ignored as wanted, where they were proven once and are wanted as they were."""
    result = entry.in_force if entry is not None else None
    if seen is None or not seen.exists or wanted is None or result is None or not ignored or is_elsewhere(wanted, result):
        return seen
    values, before = wanted.parts.get("fields", {}), result.fingerprint.parts.get("fields", {})
    left = {name: value for name, value in values.items() if before.get(name) == value and is_ignored(name, ignored)}
    return replace(seen, values={**seen.values, **left})


def begun(wanted: Fingerprint, entry: Entry | None) -> Current | None:
    """What was begun of this very thing and never proven: the run was cut off, or it failed."""
    current = entry.current if entry is not None else None
    return None if current is None or is_elsewhere(wanted, current) else current


def is_elsewhere(wanted: Fingerprint, result: Result | Current) -> bool:
    """Whether what was proven or begun is another thing than what is wanted now: another path, another account."""
    before = result.fingerprint.parts.get("place")
    return before is not None and before != wanted.parts.get("place")


def is_ignored(name: str, ignored: Collection[str]) -> bool:
    """Whether the drift of a value is left alone: `*` means all, `packages` all that begins with `packages.` too."""
    return bool({"*", name, name.partition(".")[0]} & set(ignored))


def _broken(outputs: Mapping[str, Verified]) -> Reason | None:
    """What is not as recorded of these outputs, or None when all of it is."""
    if all(seen.same for seen in outputs.values()):
        return None
    changes = [change for seen in outputs.values() for change in seen.changes]
    text = reasons.of_files(changes, sum(seen.more for seen in outputs.values())) if changes else "an output is not as recorded"
    return Reason("output-deleted" if all(change.what == "deleted" for change in changes) else "output-modified", text)


def _broke_off(f: Facts) -> Decision | None:
    """The last attempt of this fingerprint failed, or was cut off."""
    cut = f.cut
    if cut is not None:
        return _interrupted(cut)
    failed = f.failed
    if failed is not None:
        where = f" in run {failed.run}" if failed.run else ""
        see = f"; see {failed.log}" if failed.log else ""
        return _decision(Action.RETRY, "failed", f"{failed.detail or failed.exit_class}{where}{see}", Action.ADOPT)
    ended = f.ended_badly
    if ended is not None and ended.exit is not None:
        return _decision(Action.RETRY, "failed", f"{ended.exit.detail or ended.exit.exit_class.value} in run {ended.run}", Action.ADOPT)
    current = f.entry.current if f.entry else None
    if current is not None and current.status is Status.INTERRUPTED and f.wanted and not f.wanted.changes(current.fingerprint):
        return _decision(Action.RESUME, "interrupted", f"interrupted in run {current.run}", Action.RUN)
    if current is not None and current.status is Status.RUNNING and f.wanted and not f.wanted.changes(current.fingerprint):
        text = f"interrupted in run {current.run}: no attempt was found"
        return _decision(Action.RESUME, "interrupted", text, Action.RUN, Action.ADOPT)
    return None


def _changed(f: Facts) -> Decision:
    """A part differs from the result in force, or from the attempt that failed."""
    entry = f.entry
    assert entry is not None and f.wanted is not None
    base = entry.in_force or entry.current
    assert base is not None
    changes = f.wanted.changes(base.fingerprint)
    text = reasons.of_changes(changes) if changes else "new"
    action = Action.RERUN if changes else Action.RUN
    edited = [change for seen in f.outputs.values() for change in seen.changes if change.what != "deleted"]
    code = "output-modified" if edited else "changed"
    text += f"; {reasons.of_files(edited)}, it is kept aside in .albor/kept/" if edited else ""
    if f.stored is not None:
        return replace(_restore(f.stored, code if edited else "stored", f"{text}; {_made(f.stored)}", action), changes=changes)
    return Decision(action, (Action.ADOPT, action), Reason(code, text), None, changes)


def _probe_failed(f: Facts) -> Decision | None:
    seen = f.observation
    if seen is None or seen.error is None:
        return None
    if f.pending:
        return _when_ready(Action.MAY_RUN, "probe", f"looked at again after {' and '.join(f.pending)}; now: {seen.error}")
    return _decision(Action.UNKNOWN, "probe", f"{seen.error}; nothing is assumed")


def _when_ready(action: Action, code: str, text: str) -> Decision:
    """A decision that what comes before it may turn into any other."""
    return _decision(action, code, text, Action.SKIP, Action.ADOPT, Action.CREATE, Action.UPDATE)


def _infra(f: Facts) -> Decision:
    """Files, environments and the like; one whose machine changes before its turn is looked at again then."""
    decision = _infra_now(f)
    if decision.action is Action.UPDATE and not f.on_new and _found_otherwise(f):
        decision = replace(decision, loses=True)
    return replace(decision, allowed=_when_ready(decision.action, "", "").allowed) if f.pending else decision


def _found_otherwise(f: Facts) -> bool:
    """Whether a value is there which nothing of ours wrote and which cannot be had back once it is replaced."""
    wanted = f.wanted.parts.get("fields", {}) if f.wanted is not None else {}
    seen = f.observation.values if f.observation is not None else {}
    result = f.entry.in_force if f.entry is not None and not f.foreign else None
    known = result is not None and result.run != "" and f.wanted is not None and not is_elsewhere(f.wanted, result)
    ours, meant = result.observed if known and result is not None else {}, _meant(f)
    names = (name for name in wanted if name.partition(".")[0] in f.precious and name in seen)
    return any(seen[name] not in (wanted[name], ours.get(name), meant.get(name), "absent") for name in names)


def _meant(f: Facts) -> Mapping[str, str]:
    """The values that a run which was cut off, or failed, was about to bring about."""
    current = begun(f.wanted, f.entry) if f.wanted is not None and not f.foreign else None
    return current.fingerprint.parts.get("fields", {}) if current is not None else {}


def _infra_now(f: Facts) -> Decision:
    """What is wanted, what was recorded, what is there."""
    assert f.wanted is not None
    wanted = f.wanted.parts.get("fields", {})
    seen = f.observation or Observation(exists=False)
    off = {name: value for name, value in wanted.items() if seen.values.get(name) != value}
    result = f.entry.in_force if f.entry and not f.foreign else None
    moved = result is not None and is_elsewhere(f.wanted, result)
    meant = _meant(f)
    stays = f"; {_places(result)} stays as it is" if moved and result is not None else ""
    result = None if moved else result
    if f.force:
        return _decision(Action.UPDATE if seen.exists else Action.CREATE, "forced", "--force")
    if f.upstream and result is not None and not off:
        return _decision(Action.MAY_RUN, "upstream", f"if {' or '.join(f.upstream)} changes", Action.SKIP, Action.UPDATE)
    broken = None if f.foreign else begun(f.wanted, f.entry)
    if result is None:
        if not off and f.stirred:
            stirred = tuple(PartChange("triggers", name, None, "now") for name in f.stirred)
            return Decision(Action.UPDATE, (Action.UPDATE,), Reason("changed", reasons.of_changes(stirred)), None, stirred)
        if not off and broken is not None:
            return _gone_on_with(broken)
        if not off:
            return _decision(Action.ADOPT, "already-there", f"already there{stays}")
        if not seen.exists:
            return _decision(Action.CREATE, "new", ("new" if f.entry is None or moved else "not yet on the machine") + stays)
        return _decision(Action.UPDATE, "differs", difference(off, seen, "wanted") + stays)
    changes = tuple(change for change in f.wanted.changes(result.fingerprint) if change.group != "place")
    if changes:
        known = {name: (value, meant.get(name)) for name, value in result.observed.items()}
        edited = {name: known[name][0] for name in known if seen.exists and seen.values.get(name) not in known[name]}
        text = reasons.of_changes(changes) + (f"; {difference(edited, seen, 'recorded')}" if edited else "")
        return Decision(Action.UPDATE, (Action.UPDATE,), Reason("drifted" if edited else "changed", text), None, changes)
    if off:
        text = difference(off, seen, "recorded") if seen.exists else "deleted"
        return _decision(Action.UPDATE if seen.exists else Action.CREATE, "drifted", text)
    if broken is not None:
        return _gone_on_with(broken)
    return _decision(Action.SKIP, "unchanged", "unchanged")


def _gone_on_with(broken: Current) -> Decision:
    if broken.status is Status.RUNNING:
        return _decision(Action.UPDATE, "interrupted", f"interrupted in run {broken.run}")
    return _decision(Action.UPDATE, "failed", f"failed in run {broken.run}: {broken.detail}")


def _places(result: Result) -> str:
    return ", ".join(result.fingerprint.parts["place"].values())


def difference(off: Mapping[str, str], seen: Observation, word: str) -> str:
    """`mode: recorded 0755, found 0700`, and how many more."""
    name = sorted(off)[0]
    more = f" (and {len(off) - 1} more)" if len(off) > 1 else ""
    return f"{name}: {word} {reasons.shown(off[name])}, found {reasons.shown(seen.values.get(name, 'nothing'))}{more}"


def _interrupted(attempt: Attempt) -> Decision:
    boot = "" if attempt.same_boot else " (boot id changed)"
    step = f", at step {attempt.progress['step']}" if "step" in attempt.progress else ""
    text = f"interrupted in run {attempt.run}{step}{boot}"
    return _decision(Action.RESUME, "interrupted", text, Action.RUN, Action.ADOPT, attempt=attempt)


def _live(f: Facts) -> Attempt | None:
    alive = (Liveness.ALIVE, Liveness.UNSUPERVISED, Liveness.UNKNOWN)
    return next((attempt for attempt in f.attempts if attempt.liveness in alive), None)


def _was_cut(attempt: Attempt) -> bool:
    if attempt.liveness is Liveness.DEAD:
        return True
    return attempt.exit is not None and attempt.exit.exit_class is ExitClass.LOST


def _proven_same(f: Facts) -> bool:
    result = f.entry.in_force if f.entry and not f.foreign else None
    return result is not None and f.wanted is not None and not f.wanted.changes(result.fingerprint)


DRIFT = ("drifted", "output-deleted", "output-modified")
ROWS = (_undeclared, _unreachable, _running, _held, _forced, _finished, _unknown_entry, _in_force, _broke_off, _changed)
INFRA_ROWS = (_undeclared, _unreachable, _probe_failed, _held, _infra)
