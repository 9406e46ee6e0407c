"""Every row of the table of decisions (docs/architecture.md): given facts, the action, what apply may still pick, and the reason shown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from albor_pipeline.model.attempt import Attempt, Exit, ExitClass, Liveness
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.observed import FileChange, Observation, Stored, Verified
from albor_pipeline.model.plan import OVERWRITES, Action
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Current, Entry, OutputProof, Result, Status
from albor_pipeline.plan.decide import Facts, decide

KEY = Key("train", "lambda")
OLD = Fingerprint({"command": {"": "train --seed 42"}, "config": {"lr": "1e-3"}, "inputs": {"data/mixed": "aa"}})
NEW = Fingerprint({"command": {"": "train --seed 42"}, "config": {"lr": "3e-4"}, "inputs": {"data/mixed": "aa"}})
AT = "2026-03-02T09:41:00Z"
RESULT = Result(OLD, {"out": OutputProof("bb", 1, 10)}, "0007", AT, attempt=3)
DONE = Entry(KEY, "task", in_force=RESULT)
RUNNING = Entry(KEY, "task", current=Current(OLD, "0007", 3, AT, Status.RUNNING))
NO_OUTPUT = Entry(KEY, "task", in_force=replace(RESULT, outputs={}))
RUNNING_NEW = Current(NEW, "0008", 4, AT, Status.RUNNING)
FAILED = Entry(KEY, "task", current=Current(OLD, "0007", 3, AT, Status.FAILED, "error", "exit 1", "state/runs/0007/train@lambda.3.log"))
GOOD = Exit(ExitClass.OK, 0, "", 5.0, AT, {"out": OutputProof("bb", 1, 10)})

KEPT = Stored("0123456789ab", replace(RESULT, run="0005", at_utc="2026-02-28T10:00:00Z"))
BAD = Exit(ExitClass.ERROR, 7, "exit 7", 5.0, AT)


def attempt(liveness: Liveness, *, exit: Exit | None = None, parts: Fingerprint = OLD, number: int = 3, **more: Any) -> Attempt:
    return Attempt("train", number, "f", "folder", "L", "0007", liveness, AT, exit=exit, parts=parts.parts, **more)


@dataclass(frozen=True)
class Row:
    name: str
    facts: Facts
    action: Action
    says: str
    allows: tuple[Action, ...] = ()
    forbids: tuple[Action, ...] = ()
    code: str = ""


BASE = Facts(KEY, wanted=OLD)
SAME = {"out": Verified(True)}
DELETED = {"out": Verified(False, (FileChange("out", "deleted", "bb", None),))}
MODIFIED = {"out": Verified(False, (FileChange("out/part", "modified", "7c1f09a2", "e0aa41d5"),))}
UNKNOWN_INPUT = Fingerprint({"command": OLD.parts["command"], "config": OLD.parts["config"]}, ("data/mixed",))

ROWS = (
    Row("nothing known", BASE, Action.RUN, "new"),
    Row("finished attempt, state knows nothing", replace(BASE, attempts=(attempt(Liveness.ENDED, exit=GOOD),)),
        Action.ADOPT, "found on lambda, made at 2026-03-02 09:41"),
    Row("completion check passes", replace(BASE, completed=True), Action.ADOPT, "already there"),
    Row("running, alive", replace(BASE, entry=RUNNING, attempts=(attempt(Liveness.ALIVE, progress={"step": 24}),)),
        Action.ATTACH, "running since 2026-03-02 09:41, step 24"),
    Row("running, supervisor killed", replace(BASE, entry=RUNNING, attempts=(attempt(Liveness.UNSUPERVISED),)),
        Action.ATTACH, "unsupervised"),
    Row("running, dead, same boot", replace(BASE, entry=RUNNING, attempts=(attempt(Liveness.DEAD),)),
        Action.RESUME, "interrupted in run 0007", (Action.RUN,)),
    Row("running, rebooted", replace(BASE, entry=RUNNING, attempts=(attempt(Liveness.DEAD, same_boot=False),)),
        Action.RESUME, "boot id changed"),
    Row("journaled as starting, attempt never made", replace(BASE, entry=RUNNING), Action.RESUME, "no attempt was found"),
    Row("running, ended well meanwhile", replace(BASE, entry=RUNNING, attempts=(attempt(Liveness.ENDED, exit=GOOD),)),
        Action.ADOPT, "found on lambda"),
    Row("a re-run ended well meanwhile", replace(BASE, wanted=NEW, entry=replace(DONE, current=RUNNING_NEW), outputs=MODIFIED, made=SAME,
        attempts=(attempt(Liveness.ENDED, exit=GOOD, parts=NEW, number=4),)), Action.ADOPT, "found on lambda"),
    Row("a re-run ended well, then its output was edited", replace(BASE, wanted=NEW, entry=replace(DONE, current=RUNNING_NEW),
        made=MODIFIED, attempts=(attempt(Liveness.ENDED, exit=GOOD, parts=NEW, number=4),)), Action.RERUN, "output out/part modified",
        forbids=(Action.ADOPT,)),
    Row("changed back and forth: the newest attempt was of it, and its result is kept", replace(BASE, wanted=NEW, entry=DONE, outputs=SAME,
        made=MODIFIED, attempts=(attempt(Liveness.ENDED, exit=GOOD, parts=NEW, number=4),), stored=KEPT),
        Action.RESTORE, "config.lr 1e-3 -> 3e-4; made in run 0005", (Action.RERUN,)),
    Row("a re-run ended well and is kept, then its output was edited", replace(BASE, wanted=NEW, entry=replace(DONE, current=RUNNING_NEW),
        outputs=MODIFIED, made=MODIFIED, attempts=(attempt(Liveness.ENDED, exit=GOOD, parts=NEW, number=4),), stored=KEPT),
        Action.RESTORE, "output out/part modified: recorded blake3:7c1f09a2, found blake3:e0aa41d5; made in run 0005", (Action.RERUN,)),
    Row("running, failed meanwhile", replace(BASE, entry=RUNNING, attempts=(attempt(Liveness.ENDED, exit=BAD),)),
        Action.RETRY, "exit 7 in run 0007"),
    Row("running with other settings", replace(BASE, wanted=NEW, entry=RUNNING, attempts=(attempt(Liveness.ALIVE),)),
        Action.CONFLICT, "config.lr 1e-3 is running, 3e-4 is wanted: `cancel train` or `apply --replace train`",
        forbids=(Action.RUN, Action.RERUN)),
    Row("replace was asked for", replace(BASE, wanted=NEW, entry=RUNNING, attempts=(attempt(Liveness.ALIVE),), replace=True),
        Action.RERUN, "cancelled first"),
    Row("running in a foreign pid namespace", replace(BASE, entry=RUNNING, attempts=(attempt(Liveness.UNKNOWN),)),
        Action.UNKNOWN, "nothing is assumed", forbids=(Action.RUN, Action.RESUME)),
    Row("failed", replace(BASE, entry=FAILED), Action.RETRY, "exit 1 in run 0007; see state/runs/0007/train@lambda.3.log"),
    Row("new, but its output is there", replace(BASE, unexplained=("models/base",)),
        Action.RUN, "models/base is there already and is kept aside"),
    Row("changed, and its output edited by hand", replace(BASE, wanted=NEW, entry=DONE, outputs=MODIFIED),
        Action.RERUN, "config.lr 1e-3 -> 3e-4; output out/part modified"),
    Row("failed, then changed", replace(BASE, wanted=NEW, entry=FAILED), Action.RERUN, "config.lr 1e-3 -> 3e-4"),
    Row("changed", replace(BASE, wanted=NEW, entry=DONE, outputs=SAME), Action.RERUN, "config.lr 1e-3 -> 3e-4"),
    Row("changed, and a result of it is kept", replace(BASE, wanted=NEW, entry=DONE, outputs=SAME, stored=KEPT),
        Action.RESTORE, "config.lr 1e-3 -> 3e-4; made in run 0005 at 2026-02-28 10:00", (Action.RERUN,)),
    Row("changed, kept, and its output edited by hand", replace(BASE, wanted=NEW, entry=DONE, outputs=MODIFIED, stored=KEPT),
        Action.RESTORE, "output out/part modified", (Action.RERUN,), code="output-modified"),
    Row("stored result, state knows nothing", replace(BASE, stored=KEPT),
        Action.RESTORE, "found on lambda, made in run 0005 at 2026-02-28 10:00", (Action.RUN, Action.ADOPT)),
    Row("failed, then changed back to what is kept", replace(BASE, entry=replace(DONE, current=replace(FAILED.current, fingerprint=NEW)),
        outputs=DELETED, stored=KEPT), Action.RESTORE, "output out deleted", (Action.RERUN,)),
    Row("a forced run wants no result that is kept", replace(BASE, entry=DONE, outputs=SAME, stored=KEPT, force=True),
        Action.RERUN, "--force", forbids=(Action.RESTORE,)),
    Row("output deleted", replace(BASE, entry=DONE, outputs=DELETED), Action.RERUN, "output out deleted"),
    Row("output deleted, kept in the store", replace(BASE, entry=DONE, outputs=DELETED, stored=KEPT),
        Action.RESTORE, "output out deleted", (Action.RERUN,)),
    Row("output modified, kept in the store", replace(BASE, entry=DONE, outputs=MODIFIED, stored=KEPT),
        Action.RESTORE, "found blake3:e0aa41d5; it is kept aside in .albor/kept/", (Action.RERUN,), code="output-modified"),
    Row("output modified", replace(BASE, entry=DONE, outputs=MODIFIED), Action.RERUN,
        "output out/part modified: recorded blake3:7c1f09a2, found blake3:e0aa41d5"),
    Row("unchanged", replace(BASE, entry=DONE, outputs=SAME), Action.SKIP, "unchanged"),
    Row("unchanged, but a forced run of it failed", replace(BASE, entry=replace(DONE, current=FAILED.current), outputs=SAME),
        Action.RETRY, "exit 1 in run 0007"),
    Row("changed back after other settings failed, and nothing proves what is there",
        replace(BASE, entry=replace(NO_OUTPUT, current=replace(RUNNING_NEW, status=Status.FAILED))),
        Action.RERUN, "attempt 4 of run 0008 came after, with other settings"),
    Row("changed back after other settings failed, and the outputs are as recorded",
        replace(BASE, entry=replace(DONE, current=replace(RUNNING_NEW, status=Status.FAILED)), outputs=SAME), Action.SKIP, "unchanged"),
    Row("upstream may change", replace(BASE, wanted=UNKNOWN_INPUT, entry=DONE, outputs=SAME, upstream=("data-mix",)),
        Action.MAY_RUN, "if data-mix changes", (Action.SKIP, Action.RERUN)),
    Row("upstream may change, own config did", replace(BASE, wanted=Fingerprint({"config": {"lr": "9"}}, ("data/mixed",)),
        entry=DONE, upstream=("data-mix",)), Action.RERUN, "command"),
    Row("upstream is in conflict", replace(BASE, entry=DONE, wanted=UNKNOWN_INPUT, upstream=("mix",), held_by=("mix",)),
        Action.HOLD, "waits for mix", forbids=(Action.RERUN, Action.RUN)),
    Row("the quality gate before it was not passed", replace(BASE, gated={"mix": "low"}),
        Action.HOLD, "the quality gate of mix did not pass: low; to judge it anew: apply --target mix --force", forbids=(Action.RUN,)),
    Row("as above, and forced", replace(BASE, entry=DONE, outputs=SAME, gated={"mix": "low"}, force=True), Action.HOLD, "did not pass"),
    Row("as above, and nothing is to be done", replace(BASE, entry=DONE, outputs=SAME, gated={"mix": "low"}), Action.SKIP, "unchanged"),
    Row("upstream is unknown, but only order", replace(BASE, entry=DONE, outputs=SAME, held_by=("driver",)), Action.SKIP, "unchanged"),
    Row("machine does not answer", replace(BASE, entry=DONE, unreachable="timed out"), Action.UNKNOWN, "lambda does not answer"),
    Row("another machine under that name", replace(BASE, entry=DONE, foreign=True), Action.RUN, "lambda is another machine"),
    Row("no longer declared", replace(BASE, wanted=None, entry=DONE), Action.FORGET, "no longer declared"),
    Row("no longer declared, still running", replace(BASE, wanted=None, entry=RUNNING, attempts=(attempt(Liveness.ALIVE),)),
        Action.HOLD, "still running, no longer declared"),
    Row("forced", replace(BASE, entry=DONE, outputs=SAME, force=True), Action.RERUN, "--force"),
    Row("completion check passes, but what it reads may change", replace(BASE, wanted=UNKNOWN_INPUT, completed=True, upstream=("mix",)),
        Action.RUN, "new"),
    Row("interrupted, then changed", replace(BASE, wanted=NEW, entry=RUNNING, attempts=(attempt(Liveness.DEAD),)),
        Action.RERUN, "config.lr 1e-3 -> 3e-4"),
    Row("interrupted before anything was recorded, then changed to what is kept", replace(BASE, wanted=NEW, entry=RUNNING,
        attempts=(attempt(Liveness.ENDED, exit=GOOD),), stored=KEPT),
        Action.RESTORE, "config.lr 1e-3 -> 3e-4; made in run 0005", (Action.RERUN,)),
    Row("failed, then changed to what is kept", replace(BASE, wanted=NEW, entry=FAILED, stored=KEPT),
        Action.RESTORE, "config.lr 1e-3 -> 3e-4; made in run 0005", (Action.RERUN,)),
    Row("a re-run of what is kept was interrupted: it goes on", replace(BASE, entry=replace(DONE, current=RUNNING.current), outputs=DELETED,
        attempts=(attempt(Liveness.DEAD, number=4),), stored=KEPT), Action.RESUME, "interrupted in run 0007"),
    Row("changed input", replace(BASE, wanted=Fingerprint({**OLD.parts, "inputs": {"data/mixed": "cc"}}), entry=DONE, outputs=SAME),
        Action.RERUN, "input data/mixed"),
    Row("changed code", replace(BASE, wanted=Fingerprint({**OLD.parts, "code": {"stages/lib/optim.py": "cc"}}), entry=DONE, outputs=SAME),
        Action.RERUN, "code stages/lib/optim.py"),
    Row("another machine under that name, with our finished attempt", replace(BASE, entry=DONE, foreign=True, made=SAME,
        attempts=(attempt(Liveness.ENDED, exit=GOOD),)), Action.ADOPT, "found on lambda"),
    Row("another machine under that name, whose store has the result", replace(BASE, entry=DONE, foreign=True, outputs=SAME, stored=KEPT),
        Action.RESTORE, "found on lambda, made in run 0005", (Action.RUN, Action.ADOPT)),
    Row("no longer declared, on a machine that does not answer", replace(BASE, wanted=None, entry=DONE, unreachable="timed out"),
        Action.FORGET, "no longer declared"),
)  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row_of_the_table(row: Row) -> None:
    decision = decide(row.facts)
    assert decision.action is row.action
    assert row.says in decision.reason.text
    assert row.code in ("", decision.reason.code)
    assert decision.action in decision.allowed
    assert set(row.allows) <= set(decision.allowed)
    assert not set(row.forbids) & set(decision.allowed)


IDLE = (Action.HOLD, Action.CONFLICT, Action.UNKNOWN, Action.FORGET)
CANCELS = {Action.CONFLICT: (Action.RERUN,)}
POLICIES: dict[str, tuple[dict[str, Any], dict[Action, tuple[Action, ...]], tuple[Action, ...]]] = {
    "--force": ({"force": True}, {Action.ATTACH: (Action.CONFLICT,)}, (Action.RERUN, *IDLE)),
    "--replace": ({"replace": True}, CANCELS, ()),
    "--force --replace": ({"force": True, "replace": True}, {**CANCELS, Action.ATTACH: (Action.RERUN,)}, (Action.RERUN, *IDLE)),
    "its result is kept": ({"stored": KEPT}, {}, (Action.RESTORE,)),
    "cache: false, or nothing is kept": ({"stored": None}, {Action.RESTORE: (Action.RUN, Action.RERUN)}, ()),
    "upstream is held": ({"held_by": ("mix",), "upstream": ("mix",)}, {}, (Action.HOLD,)),
    "its machine does not answer": ({"unreachable": "timed out"}, {}, (Action.UNKNOWN,)),
    "no longer declared": ({"wanted": None}, {}, (Action.FORGET, Action.HOLD)),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_row_under_a_policy(row: Row, policy: str) -> None:
    """The action is what the policy makes of the row's own, or one that the policy stands for; else the row's own."""
    more, instead, always = POLICIES[policy]
    decision = decide(replace(row.facts, **more))
    assert decision.action in (instead.get(row.action) or (row.action,)) + always
    assert decision.action in decision.allowed
    assert decision.action in IDLE or Action.RESTORE not in decision.allowed or not more.get("force")
    live = any(each.liveness in (Liveness.ALIVE, Liveness.UNSUPERVISED, Liveness.UNKNOWN) for each in row.facts.attempts)
    assert not (live and decision.action.executes) or decision.reason.code == "replaced", "never a second copy beside a live one"


def test_forced_run_never_starts_a_second_copy_beside_a_live_one() -> None:
    facts = replace(BASE, entry=RUNNING, attempts=(attempt(Liveness.ALIVE),), force=True)
    assert decide(facts).action is Action.CONFLICT


def test_an_adopted_result_is_not_adopted_again() -> None:
    facts = replace(BASE, entry=DONE, attempts=(attempt(Liveness.ENDED, exit=GOOD),), outputs=DELETED)
    assert decide(facts).action is Action.RERUN


def test_an_older_good_attempt_is_not_adopted_over_a_newer_one() -> None:
    newer = attempt(Liveness.ENDED, exit=Exit(ExitClass.ERROR, 1, "exit 1", 1.0, AT), parts=NEW, number=4)
    facts = replace(BASE, attempts=(newer, attempt(Liveness.ENDED, exit=GOOD)))
    assert decide(facts).action is Action.RUN


EDITED = [row for row in ROWS if row.action.executes and ("kept aside" in row.says or row.facts.outputs is MODIFIED)]


@pytest.mark.parametrize("row", EDITED, ids=lambda row: row.name)
def test_bytes_that_nothing_of_ours_explains_are_asked_about(row: Row) -> None:
    assert decide(row.facts).reason.code in OVERWRITES


FILE = Fingerprint({"fields": {"mode": "0755", "type": "directory"}})
FILE_ENTRY = Entry(Key("data-dir", "intel"), "file", in_force=Result(FILE, {}, "0007", AT))
INFRA = Facts(Key("data-dir", "intel"), kind="file", wanted=FILE)
THERE = Observation(True, {"mode": "0755", "type": "directory"})
LOOSE = Observation(True, {"mode": "0700", "type": "directory"})

INFRA_ROWS = (
    Row("not there", replace(INFRA, observation=Observation(False)), Action.CREATE, "new"),
    Row("there already", replace(INFRA, observation=THERE), Action.ADOPT, "already there"),
    Row("there, but different", replace(INFRA, observation=LOOSE), Action.UPDATE, "mode: wanted 0755, found 0700"),
    Row("as recorded", replace(INFRA, entry=FILE_ENTRY, observation=THERE), Action.SKIP, "unchanged"),
    Row("drifted", replace(INFRA, entry=FILE_ENTRY, observation=LOOSE), Action.UPDATE, "mode: recorded 0755, found 0700"),
    Row("deleted", replace(INFRA, entry=FILE_ENTRY, observation=Observation(False)), Action.CREATE, "deleted"),
    Row("declared otherwise", replace(INFRA, wanted=Fingerprint({"fields": {"mode": "0700", "type": "directory"}}),
        entry=FILE_ENTRY, observation=THERE), Action.UPDATE, "field mode 0755 -> 0700"),
    Row("declared otherwise and edited by hand", replace(INFRA, wanted=Fingerprint({"fields": {"mode": "0711", "type": "directory"}}),
        entry=replace(FILE_ENTRY, in_force=Result(FILE, {}, "0007", AT, observed=THERE.values)), observation=LOOSE),
        Action.UPDATE, "field mode 0755 -> 0711; mode: recorded 0755, found 0700"),
    Row("probe failed", replace(INFRA, entry=FILE_ENTRY, observation=Observation(False, error="the probe timed out after 10 s")),
        Action.UNKNOWN, "nothing is assumed", forbids=(Action.UPDATE, Action.CREATE)),
    Row("another machine under that name", replace(INFRA, entry=FILE_ENTRY, observation=LOOSE, foreign=True),
        Action.UPDATE, "mode: wanted 0755, found 0700"),
    Row("another machine under that name, there already", replace(INFRA, entry=FILE_ENTRY, observation=THERE, foreign=True),
        Action.ADOPT, "already there"),
    Row("machine does not answer", replace(INFRA, entry=FILE_ENTRY, unreachable="timed out"), Action.UNKNOWN, "intel does not answer"),
    Row("no longer declared", replace(INFRA, wanted=None, entry=FILE_ENTRY), Action.FORGET, "the file itself is kept"),
)  # fmt: skip


@pytest.mark.parametrize("row", INFRA_ROWS, ids=lambda row: row.name)
def test_row_for_infrastructure(row: Row) -> None:
    test_row_of_the_table(row)
