"""The tables of `status`, `ps`, `drift`, `history` and `why`, and the JSON that they are made from."""

from __future__ import annotations

import json
from typing import Any

import pytest

from albor_pipeline.errors import Diagnostic, ManifestError, Source, Span
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.plan import Action, Plan, Reason, Step
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Current, Entry, Origin, OutputProof, Result, State, Status
from albor_pipeline.ui import documents, plan_text
from albor_pipeline.ui.hints import Hints
from albor_pipeline.ui.status_text import drift_lines, history_lines, ps_lines, status_lines
from albor_pipeline.ui.why_text import group_text, why_lines

AT = "2026-03-02T14:10:02.000Z"
KEY = Key("train", "lambda")
PARTS = Fingerprint({"command": {"": "train"}})
RESULT = Result(PARTS, {"out": OutputProof("91d0c4e7aa", 2, 4_100_000_000)}, "0007", AT, 5.0, 1)
RUNNING = Current(PARTS, "0008", 2, AT, Status.RUNNING)


def row(entry: Entry | None, **more: Any) -> dict[str, Any]:
    return {**documents.of_entry(KEY, "task", entry, more.pop("progress", None)), **more}


@pytest.mark.parametrize(
    ("shown", "line"),
    [
        (row(None), "  lambda   train     task  pending      -"),
        (row(None, waits_for=["mix", "pack"]), "  lambda   train     task  pending      -            waits for mix, pack"),
        (row(Entry(KEY, "task", RESULT)), "  lambda   train     task  converged    03-02 14:10  1 output, 4.1 GB"),
        (row(Entry(KEY, "task", Result(PARTS, {"out": OutputProof(None, 1, 5)}, "1", AT, origin=Origin.ACCEPTED))),
         "  lambda   train     task  converged    03-02 14:10  1 output, 5 B, accepted"),
        (row(Entry(KEY, "task", Result(PARTS, {}, "0007", AT))), "  lambda   train     task  converged    03-02 14:10"),
        (row(Entry(KEY, "task", None, RUNNING)), "  lambda   train     task  running      03-02 14:10  attempt 2"),
        (row(Entry(KEY, "task", None, RUNNING), progress={"step": 3}), "  lambda   train     task  running      03-02 14:10  step 3"),
        (row(Entry(KEY, "task", None, Current(PARTS, "8", 2, AT, Status.FAILED, "error", "exit 1", "state/x.log"))),
         "  lambda   train     task  failed       03-02 14:10  exit 1, state/x.log"),
        (row(Entry(KEY, "task", None, Current(PARTS, "8", 2, AT, Status.FAILED, "oom"))),
         "  lambda   train     task  failed       03-02 14:10  oom"),
    ],
)  # fmt: skip
def test_a_row_of_status(shown: dict[str, Any], line: str) -> None:
    other = {**row(None), "status": "interrupted"}
    document = documents.of_status("p", State("l", 3, "p", last_run="0007"), [shown, other])
    lines = status_lines(document, AT)
    assert lines[0] == "p: run 0007 of 2026-03-02 14:10 UTC"
    assert " ".join(lines[3].split()) == " ".join(line.split())
    assert lines[-1].startswith("2 resources: ") and lines[-1].endswith("1 interrupted.")


def test_status_before_the_first_run_and_of_a_run_without_a_time() -> None:
    assert status_lines(documents.of_status("p", State("l", 0, "p"), []), None)[0] == "p: never applied"
    assert status_lines(documents.of_status("p", State("l", 0, "p", last_run="0001"), []), None)[0] == "p: run 0001"


def test_a_running_row_takes_a_line_for_each_piece_of_progress() -> None:
    progress = {"step": 24000, "loss": 2.41, "tokens_per_s": 28900}
    document = documents.of_status("p", State("l", 1, "p"), [row(Entry(KEY, "task", None, RUNNING), progress=progress)])
    assert [line.strip() for line in status_lines(document, None)[4:6]] == ["loss 2.41", "28,900 tok/s"]


def test_status_and_ps_show_the_share_of_the_peak_with_that_peak() -> None:
    progress = {"step": 24000, "tokens_per_s": 28900, "mfu": 0.46, "mfu_of": "165 TFLOP/s bf16"}
    document = documents.of_status("p", State("l", 1, "p"), [row(Entry(KEY, "task", None, RUNNING), progress=progress)])
    attempt = {"machine": "lambda", "resource": "train", "number": 1, "liveness": "alive", "started_utc": AT, "progress": progress}
    for lines in (status_lines(document, None), ps_lines([attempt])):
        assert any("28,900 tok/s, MFU 46% of 165 TFLOP/s bf16" in line for line in lines)


def test_drift_counts_resources_not_files() -> None:
    finding = {"what": "drifted", "resource": "a", "resource_type": "task", "machine": "m", "detail": "out/x: deleted"}
    unknown = {**finding, "what": "unknown", "resource": "b", "detail": "the probe timed out; nothing is assumed"}
    document = {"machines_checked": 1, "checked": 5, "seconds": 2.1, "findings": [finding, {**finding, "detail": "out/y: added"}, unknown]}
    lines = drift_lines(document, Hints())
    assert lines[0] == "Checked 5 converged resources on 1 machine in 2.1 s."
    assert lines[-2] == "1 drifted, 1 unknown, 3 as recorded."
    assert lines[-1] == "To see and do the repair: albor-pipeline plan, then apply"
    assert len(drift_lines({**document, "findings": []}, Hints())) == 3


def test_history_and_ps_say_when_there_is_nothing() -> None:
    assert history_lines([]) == ["Nothing has happened yet."]
    assert ps_lines([]) == ["Nothing is running."]
    event = {"serial": 1, "at_utc": AT, "run": "0001", "resource": "train", "machine": "lambda", "what": "done", "note": None}
    bound = {"serial": 2, "at_utc": AT, "machine": "lambda", "what": "machine-bound"}
    assert [line.split() for line in history_lines([event, bound])] == [
        ["1", "2026-03-02", "14:10:02", "0001", "train@lambda", "done"], ["2", "2026-03-02", "14:10:02", "lambda", "machine-bound"],
    ]  # fmt: skip


WHY = {"resource": "train", "machine": "lambda", "run": "0006", "origin": "accepted", "verdict": "will run: config.lr 1 -> 2",
       "parts": [{"group": "config", "state": "changed", "text": "lr 1 -> 2"}], "then": ["eval"], "changed": True}  # fmt: skip


def test_why_names_the_parts_what_follows_and_how_to_keep_what_exists() -> None:
    lines = why_lines(WHY, Hints())
    assert lines[0] == "train on lambda: done in run 0006 (accepted), will run: config.lr 1 -> 2."
    assert "Then may run, if its output changes: eval." in lines
    assert lines[-1] == "To keep what exists: albor-pipeline accept train"
    never = why_lines({**WHY, "run": None, "origin": None, "then": [], "parts": []}, Hints())
    assert never == ["train on lambda: never done, will run: config.lr 1 -> 2."]


@pytest.mark.parametrize(
    ("group", "values", "changes", "text"),
    [
        ("config", {"a": "1"}, ["c1", "c2", "c3", "c4", "c5"], "c1; c2; c3; c4; and 1 more"),
        ("command", {"": "make it"}, [], "make it"),
        ("code", {"a.py": "1", "b.py": "2"}, [], "2 files"),
        ("inputs", {"data": "91d0c4e7aaaa"}, [], "data (blake3:91d0c4e7)"),
        ("python", {"python": "3.11", "torch": "2.6"}, [], "python 3.11, torch 2.6"),
        ("env", {"A": "1", "B": "2", "C": "3", "D": "4", "E": "5"}, [], "A, B, C, D and 1 more"),
        ("config", {"a": "1", "b": "2"}, [], "2 values"),
    ],
)
def test_what_a_part_is_made_of(group: str, values: dict[str, str], changes: list[str], text: str) -> None:
    assert group_text(group, values, changes) == text


def test_every_step_is_listed_when_asked_for() -> None:
    skip = Step(KEY, "task", Action.SKIP, (Action.SKIP,), Reason("unchanged", "unchanged"))
    plan = Plan("p", "p.yaml", (skip,), ("lambda",))
    lines = plan_text.plan_lines(plan, Hints(), every=True)
    assert [line for line in lines if "train" in line] == ["    train  task  lambda  unchanged  unchanged"]
    assert plan_text.plan_lines(plan, Hints())[-1] == "Nothing to do: 1 unchanged."


def test_an_error_as_json_has_its_place() -> None:
    span = Span(Source("p.yaml", "a: b\n"), 1, 4)
    error = ManifestError(Diagnostic("error", "bad", "it is bad", span, "here", ("a way out",)))
    assert json.loads(documents.text(documents.of_error(error))) == {
        "version": 1, "what": "error", "exit_code": 1,
        "diagnostics": [{"level": "error", "code": "bad", "message": "it is bad", "at": {"file": "p.yaml", "line": 1, "column": 4},
                         "label": "here", "notes": ["a way out"]}],
    }  # fmt: skip
