"""The lines of a run and its last words, for each way in which it may end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from albor_pipeline.model.events import (
    LogEvent,
    Moved,
    MoveEvent,
    NoteEvent,
    ProgressEvent,
    RunReport,
    RunStarted,
    StepEvent,
)  # fmt: skip
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import OutputProof
from albor_pipeline.ui import documents
from albor_pipeline.ui.hints import Hints
from albor_pipeline.ui.run_text import RunLines, report_lines

AT = "2026-03-02T14:10:02.000Z"
MIX, TRAIN = Key("data-mix", "lambda"), Key("train", "intel")
PROOF = OutputProof("91d0c4e7ffff", 41, 4_100_000_000)
LINES = RunLines(["lambda", "intel"], ["data-mix", "train"])
SEE = "To see it: albor-pipeline status p.yaml"
SAVED = "State is saved. Fix the cause and run the same command; finished work is not repeated."
DONE = RunReport("0008", "state/runs/0008", {"done": 2, "unchanged": 13})


def test_a_run_begins_with_what_it_may_do_and_where_its_logs_are() -> None:
    assert LINES.of(RunStarted("0008", "state/runs/0008", 6, 13, 2)) == [
        "run 0008: up to 6 to do, 13 unchanged, 2 machines (log: state/runs/0008/)"
    ]
    assert LINES.of(NoteEvent("a note")) == ["a note"]
    assert LINES.of(ProgressEvent(MIX, {"step": 1})) == []


@pytest.mark.parametrize(
    ("event", "lines"),
    [
        (StepEvent(MIX, "running", AT, seconds=700.0), ["14:10:02  lambda  data-mix  running    last time 11 min 40 s"]),
        (StepEvent(MIX, "running", AT, note="config.lr 1 -> 2"), ["14:10:02  lambda  data-mix  running    config.lr 1 -> 2"]),
        (StepEvent(TRAIN, "running", AT), ["14:10:02  intel   train     running"]),
        (StepEvent(MIX, "done", AT, seconds=689.0, outputs={"data/mixed": PROOF}),
         ["14:10:02  lambda  data-mix  done       11 min 29 s    data/mixed  4.1 GB  blake3:91d0c4e7"]),
        (StepEvent(MIX, "done", AT, outputs={f"o{i}": OutputProof(None, 1, 5) for i in range(5)}),
         ["14:10:02  lambda  data-mix  done       o0  5 B    o1  5 B    o2  5 B    and 2 more"]),
        (StepEvent(MIX, "done", AT, outputs={f"o{i}": OutputProof(None, 1, 5) for i in range(4)}),
         ["14:10:02  lambda  data-mix  done       o0  5 B    o1  5 B    o2  5 B    and 1 more"]),
        (StepEvent(TRAIN, "FAILED", AT, note="exit 1", seconds=39.0, tail=("\x1b[31mno column\x1b[0m", "end"), log="state/x.log"),
         ["14:10:02  intel   train     FAILED     39 s    exit 1", "            | no column", "            | end",
          "            | log: state/x.log"]),
        (StepEvent(TRAIN, "FAILED", AT, note="did not start"), ["14:10:02  intel   train     FAILED     did not start"]),
        (StepEvent(TRAIN, "hold", AT, note="waits for data-mix"), ["14:10:02  intel   train     hold       waits for data-mix"]),
    ],
)  # fmt: skip
def test_a_step_is_a_line_and_a_failure_brings_its_last_words(event: StepEvent, lines: list[str]) -> None:
    assert LINES.of(event) == lines


@pytest.mark.parametrize(
    ("event", "lines"),
    [
        (LogEvent(TRAIN, AT, ("\x1b[1mone\x1b[0m", "two"), since_s=252.0),
         ["14:10:02  intel   train     printed    unwatched for 4 min 12 s, from just before", "            | one", "            | two"]),
        (LogEvent(TRAIN, AT, ("end",), more=1, since_s=7.0),
         ["14:10:02  intel   train     printed    unwatched for 7.0 s, from just before    1 line more: albor-pipeline logs train",
          "            | end"]),
        (LogEvent(TRAIN, AT, ("end",), more=3120, uncounted=True),
         ["14:10:02  intel   train     printed    at least 3120 lines more: albor-pipeline logs train", "            | end"]),
        (LogEvent(TRAIN, AT, ("end",)), ["14:10:02  intel   train     printed", "            | end"]),
    ],
)  # fmt: skip
def test_what_was_printed_while_nobody_watched_is_told_with_where_the_rest_is(event: LogEvent, lines: list[str]) -> None:
    assert LINES.of(event) == lines


def test_a_move_is_a_line_when_it_begins_and_one_with_time_and_rate_when_it_is_done() -> None:
    moved = Moved("data/mixed", "lambda", "intel", 41, 4_100_000_000, 41.0)
    head = "14:10:02  intel   train     "
    assert LINES.of(MoveEvent(TRAIN, "moving", AT, moved)) == [f"{head}moving     data/mixed from lambda    41 files, 4.1 GB"]
    what = "data/mixed from lambda"
    assert LINES.of(MoveEvent(TRAIN, "moved", AT, moved)) == [f"{head}moved      41 s    {what}    41 files, 4.1 GB    100 MB/s"]
    nothing = replace(moved, files=0, size_bytes=0, seconds=0.2)
    assert LINES.of(MoveEvent(TRAIN, "moved", AT, nothing)) == [f"{head}moved      0.2 s    {what}    nothing had to be sent"]
    documented = {"path": "data/mixed", "from": "lambda", "to": "intel", "files": 41, "size_bytes": 4_100_000_000, "seconds": 41.0}
    tried = replace(moved, why="no key")
    document = documents.of_report(replace(DONE, moves=(moved, tried, replace(moved, way="direct"))))["moves"]
    ways = [{"way": "relayed"}, {"way": "relayed", "not_direct": "no key"}, {"way": "direct"}]
    assert document == [{**documented, **way} for way in ways]


@pytest.mark.parametrize(
    ("report", "lines"),
    [
        (replace(DONE, counts={"failed": 1, "done": 3, "not started": 1}, stopped=True),
         ["", "Stopped at the first failure: 3 done, 1 failed, 1 not started.", SAVED]),
        (replace(DONE, counts={"failed": 2}), ["", "Finished with failures: 2 failed.", SAVED]),
        (replace(DONE, counts={"held": 1, "done": 1}),
         ["", "Not everything could be done: 1 done, 1 held.", "To see why: albor-pipeline plan"]),
        (replace(DONE, counts={"done": 1}, interrupted=True, still_running=(TRAIN,)),
         ["", "Interrupted: 1 done.", "  train goes on on intel; to watch it: albor-pipeline attach train",
          "State is saved. The same command continues."]),
        (replace(DONE, counts={}, broken="the journal cannot be written: No space left on device"),
         ["", "Stopped: the journal cannot be written: No space left on device",
          "nothing was done. Attempts that are running go on; the next run finds them."]),
        (DONE, ["", "Done: 2 done, 13 unchanged.", SEE]),
    ],
)  # fmt: skip
def test_how_a_run_ended(report: RunReport, lines: list[str]) -> None:
    assert report_lines(report, Hints(), "p.yaml") == lines


def test_a_good_end_shows_artifacts_headlines_and_published_values() -> None:
    summaries = ((TRAIN, {"headline": ["val 2.63", "ppl 13.9"]}), (MIX, {}))
    report = replace(DONE, outputs=((MIX, "data/mixed", PROOF), (TRAIN, "log", OutputProof(None, 1, 10))), summaries=summaries,
                     values={"model": "models/base"})  # fmt: skip
    assert report_lines(report, Hints(), "p.yaml")[2:] == [
        "",
        "  task      artifact    files     size    digest",
        "  data-mix  data/mixed  41 files  4.1 GB  blake3:91d0c4e7",
        "  train     log         1 file    10 B",
        "",
        "  train  val 2.63",
        "  train  ppl 13.9",
        "",
        "  model:  models/base",
    ]


@pytest.mark.parametrize("headline", ["one", ["one"], 3, [3, None], {"a": 1}, None, [], "two\nlines\x1b[2J"])
def test_a_result_of_any_shape_still_ends_the_run_with_a_report(headline: object) -> None:
    report = replace(DONE, summaries=((TRAIN, {"headline": headline}),))
    lines = report_lines(report, Hints(), "p.yaml")
    assert lines[1] == "Done: 2 done, 13 unchanged."
    assert all(line.isprintable() for line in lines)
    assert '"headline"' in documents.text(documents.of_report(report))
