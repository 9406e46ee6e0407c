"""An attempt that an older agent began is attached, cancelled and adopted by this one: its folder is a contract."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from albor_pipeline.transport.client import AgentClient, AgentError
from albor_pipeline.transport.process import ProcessChannel
from cli.builder import Project

AGENTS = sorted((Path(__file__).parents[1] / "agents").glob("*.pyz"))
TRAIN = """
train:
  type: task
  command: echo start >> starts; echo begin; while ! test -e go; do sleep 0.05; done; echo end; cat in.txt > model.txt
  inputs: [in.txt]
  outputs: [model.txt]
"""
Begin = Callable[[], None]


class Killed(BaseException):
    """The controller is gone from here on."""


@pytest.fixture(params=AGENTS, ids=lambda path: path.stem)
def begin(request: pytest.FixtureRequest, project: Project) -> Begin:
    """Lets an older agent begin `train` at the word of a controller, which is gone right after it; then so is the agent."""

    def run() -> None:
        project.file("in.txt", "weights\n").manifest(TRAIN)
        queue = AgentClient.queue

        def old(self: AgentClient, verb: str, **args: Any) -> int:
            if verb != "start" or self.machine == "old":
                return queue(self, verb, **args)
            words = [sys.executable, "-I", str(request.param), "--workdir", str(project.root), "--machine", "localhost"]
            agent = AgentClient(ProcessChannel([*words, "--lineage", "whose lease is free"]), "old")
            agent.greet()
            with contextlib.suppress(AgentError):
                agent.request("lease", holder="an older controller")
            assert agent.request("start", **args)["number"] == 1
            agent.close()
            raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(AgentClient, "queue", old)
            with pytest.raises(Killed):
                project.run("apply")
        project.wait_for("starts")

    return run


def test_it_is_attached_and_its_end_is_proven(project: Project, begin: Begin) -> None:
    begin()
    assert "! train  task  localhost  attach  running since DAY TIME" in project.run("plan").out
    again = project.start("apply")
    assert again.stderr is not None and any("  attached " in line for line in again.stderr)
    project.file("go", "")
    said = again.stderr.readlines()
    assert again.wait() == 0 and any("  done " in line and "model.txt  8 B" in line for line in said), said
    project.holds("starts", "start\n").holds("model.txt", "weights\n").says("logs", "train", out="""
        begin
        end
    """)
    project.says("apply", out="Nothing to do: 1 unchanged.").does("audit")


def test_its_end_while_nobody_watched_is_adopted(project: Project, begin: Begin) -> None:
    begin()
    project.file("go", "").wait(lambda: list(project.root.glob(".albor/attempts/train/*/exit")))
    assert "Done: 1 adopted." in project.run("apply").out
    project.holds("starts", "start\n").says("apply", out="Nothing to do: 1 unchanged.")


def test_it_is_seen_and_cancelled(project: Project, begin: Begin) -> None:
    begin()
    (row,) = project.json("ps")["attempts"]
    assert (row["resource"], row["number"], row["liveness"]) == ("train", 1, "alive")
    project.says("cancel", "train", out="train@localhost: attempt 1 ended (cancelled).").holds("model.txt", None)
    project.file("go", "")
    assert "Done: 1 done." in project.run("apply").out
    project.holds("starts", "start\nstart\n")
