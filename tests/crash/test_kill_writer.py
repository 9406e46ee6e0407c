"""kill -9 of a real process that writes the state, at any moment: what it had told is there, and it can go on."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from albor_pipeline.state.folder import StateFolder

WRITER = """
import sys
from pathlib import Path
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Entry
from albor_pipeline.state.folder import StateFolder, Transition
with StateFolder.open(Path(sys.argv[1]), "p", write=True, seal_bytes=20_000) as folder:
    start = len(folder.state.entries)
    for number in range(start, start + 100_000):
        key = Key(f"task-{number}", "local")
        folder.record([Transition("converged", key, Entry(key, "file"))])
        print(number, flush=True)
        if number % 7 == 0:
            folder.snapshot()
"""


@pytest.mark.slow
def test_a_killed_writer_loses_nothing_that_it_had_told(tmp_path: Path) -> None:
    moments, told = random.Random(7), -1
    for _kill in range(25):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "state")], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(moments.uniform(0.0, 0.05))
        writer.send_signal(signal.SIGKILL)
        lines = [first, *writer.stdout.readlines()]
        writer.wait()
        told = max([told, *(int(line) for line in lines if line.endswith("\n"))])
        with StateFolder.open(tmp_path / "state", "p", write=False) as folder:
            kept = {int(key.resource.removeprefix("task-")) for key in folder.state.entries}
            assert kept >= set(range(told + 1))
            assert kept <= set(range(told + 2)), "more than the next was recorded"
            assert folder.audit().ok
        told = max(kept)
