"""A machine that says no where no step asks: no room for a name, for code, for a cancel. The user is told which machine, and why."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from albor_pipeline.errors import AlborError
from albor_pipeline.model.resource import Key
from albor_pipeline.run import stored
from albor_pipeline.run.code import CodeReader
from albor_pipeline.run.follow import Follower
from albor_pipeline.run.snapshot import CodeSender
from albor_pipeline.transport.client import AgentError

FULL = "No space left on device"


class Agent:
    """An agent whose disk is full."""

    def request(self, verb: str, **args: Any) -> dict[str, Any]:
        raise AgentError("io", FULL)

    def put_code(self, digest: str, files: Any) -> str:
        raise AgentError("io", FULL)


@pytest.fixture
def fleet() -> Any:
    return SimpleNamespace(agents={"lambda": Agent()})


def test_a_name_that_cannot_be_followed_leaves_all_as_it_was(fleet: Any) -> None:
    with pytest.raises(AlborError, match=f"what lambda keeps of `old` cannot go to the name `new`: {FULL}"):
        stored.follow(fleet, {Key("old", "lambda"): Key("new", "lambda")})


def test_code_that_finds_no_room_is_named(fleet: Any, tmp_path: Path) -> None:
    (tmp_path / "stage.py").write_text("")
    files = CodeReader(tmp_path).closure("stage.py").files
    with pytest.raises(AlborError, match=f"lambda does not take the code of the stage: {FULL}"):
        CodeSender(tmp_path, fleet).ensure("lambda", files)


def test_an_attempt_that_cannot_be_ended_is_named(fleet: Any) -> None:
    session: Any = SimpleNamespace(fleet=fleet, vault=None)
    with pytest.raises(AlborError, match=f"attempt 2 of `train` cannot be ended: {FULL}"):
        Follower(session, Key("train", "lambda"), 2).cancel()
