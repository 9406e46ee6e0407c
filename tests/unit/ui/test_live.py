"""Where progress is shown: plain lines without a terminal, a live block on one, and nothing lost when nobody reads."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from albor_pipeline.model.events import NoteEvent, ProgressEvent, StepEvent
from albor_pipeline.model.plan import Action, Plan, Reason, Step
from albor_pipeline.model.resource import Key
from albor_pipeline.ui.live import reporter

REFRESH_S = 0.3
AT = "2026-03-02T14:10:02.000Z"
KEY = Key("train", "here")
PLAN = Plan("p", "p.yaml", (Step(KEY, "task", Action.RUN, (Action.RUN,), Reason("new", "new")),), ("here",))
EVENTS = (
    StepEvent(KEY, "running", AT),
    ProgressEvent(KEY, {"step": 24000, "loss": 2.41, "mfu": 0.46, "mfu_of": "165 TFLOP/s bf16"}),
    ProgressEvent(Key("other", "here"), {"step": 1}),
    NoteEvent("a note"),
    StepEvent(KEY, "FAILED", AT, note="exit 1 [bold]"),
)
BROKEN = """
import sys
from albor_pipeline.model.events import NoteEvent
from albor_pipeline.ui.live import reporter
from albor_pipeline.model.plan import Plan
with reporter(Plan("p", "p.yaml", (), ()), sys.stderr) as report:
    for _ in range(3):
        report(NoteEvent("x" * 100000))
print("the run went on")
"""


class Gone(io.StringIO):
    """A stream whose reader left."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_without_a_terminal_each_event_is_a_plain_line() -> None:
    stream = io.StringIO()
    with reporter(PLAN, stream) as report:
        for event in EVENTS:
            report(event)
    assert stream.getvalue() == "14:10:02  here  train  running\na note\n14:10:02  here  train  FAILED     exit 1 [bold]\n"


def test_a_reader_that_left_stops_no_run() -> None:
    with reporter(PLAN, Gone()) as report:
        for event in EVENTS:
            report(event)
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", BROKEN], stderr=write, stdout=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stdout) == (0, "the run went on\n")


def drawn(events: tuple[object, ...]) -> str:
    """What a terminal receives, without the codes that move its cursor."""
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w", encoding="utf-8") as stream, reporter(PLAN, stream) as report:
        for event in events:
            report(event)  # type: ignore[arg-type]
            time.sleep(REFRESH_S)
    data = b""
    while select.select([leader], [], [], 0.2)[0]:
        try:
            piece = os.read(leader, 65536)
        except OSError:
            break
        data += piece
        if not piece:
            break
    os.close(leader)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode())


def test_on_a_terminal_running_tasks_stand_below_with_their_progress() -> None:
    text = drawn(EVENTS[:3])
    assert "14:10:02  here  train  running" in text
    assert "train on here  step 24,000, loss 2.41, MFU 46% of 165 TFLOP/s bf16" in text
    assert "other" not in text


@pytest.mark.slow
def test_on_a_terminal_what_has_ended_scrolls_away_as_the_same_lines() -> None:
    text = drawn((*EVENTS, NoteEvent("the last line")))
    assert "a note" in text
    failed = text.index("14:10:02  here  train  FAILED     exit 1 [bold]")
    assert "train on here" in text[:failed]
    assert "train on here" not in text[text.index("the last line") :]


def test_an_apply_on_a_terminal_shows_steps_and_ends_well(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text('version: "1.0"\nname: p\nresources:\n  a: { type: task, command: "true", inputs: [p.yaml] }\n')
    leader, follower = pty.openpty()
    argv = [sys.executable, "-m", "albor_pipeline", "apply", "p.yaml"]
    done = subprocess.run(argv, cwd=tmp_path, stdout=subprocess.PIPE, stderr=follower, stdin=follower, text=True, check=False, timeout=60)
    os.close(follower)
    shown = os.read(leader, 65536).decode()
    os.close(leader)
    assert (done.returncode, done.stdout.splitlines()[1]) == (0, "Done: 1 done.")
    assert re.search(r"localhost  a  done", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown))
