"""What an attempt costs: two fsyncs, whatever it does, and starts that do not wait for one another."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from albor_pipeline.agent import supervisor
from albor_pipeline.agent.attempts import read_proof
from albor_pipeline.agent.layout import Layout


def attempt_in_a_fork(root: Path, spec: dict[str, Any]) -> list[str]:
    """Run one attempt as the spawner does and list what was made durable, in order."""
    seen = root / "fsyncs"
    pid = os.fork()
    if pid == 0:
        real = os.fsync

        def fsync(descriptor: int) -> None:
            with seen.open("a") as file:
                file.write(Path(f"/proc/self/fd/{descriptor}").readlink().name + "\n")
            real(descriptor)

        os.fsync = fsync
        supervisor.supervise(Layout(str(root)), "box", {**spec, "expected": 1, "at_utc": "x"}, lambda _report: None)
        os._exit(0)
    os.waitpid(pid, 0)
    return seen.read_text().split()


@pytest.mark.parametrize("script", ["echo 1 > o", "exit 1", "kill -9 $$"])
def test_an_attempt_costs_two_fsyncs_the_record_first_and_then_the_proof(box: Any, script: str) -> None:
    outputs = [{"path": "o"}] if "o" in script.split() else []
    retry = {"attempts": 3, "backoff_s": 0, "on": ["error"]}
    assert attempt_in_a_fork(box.root, box.spec(script, outputs=outputs, retry=retry)) == ["pid", "proof"]
    assert read_proof(str(box.folder())) is not None


def test_many_starts_run_beside_one_another(box: Any) -> None:
    began, count = time.monotonic(), 40
    for i in range(count):
        box.lead(box.client).submit("start", **box.spec("sleep 0.5", f"t{i}"))
    for i in range(count):
        box.ended(f"t{i}")
    assert time.monotonic() - began < count * 0.5 / 2
