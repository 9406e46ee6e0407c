"""Limits of a card's memory: which of them a task is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from albor_pipeline.agent.gpulimits import VARIABLE, file_of, told


def leave(workdir: Path, name: str, body: object) -> None:
    path = workdir / file_of(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(body if isinstance(body, str) else json.dumps(body))


@pytest.mark.parametrize(
    ("gpus", "limit"), [(None, 4000), ([0], 8000), ([1], 4000), ([0, 1], 4000), ([2], 9000), ([], None)]
)  # fmt: skip
def test_the_least_limit_of_the_cards_that_a_task_sees_is_told(tmp_path: Path, gpus: list[int] | None, limit: int | None) -> None:
    leave(tmp_path, "a", {"limit_mb": 9000, "devices": []})
    leave(tmp_path, "b", {"limit_mb": 8000, "devices": [0]})
    leave(tmp_path, "c/d", {"limit_mb": 4000, "devices": [1]})
    leave(tmp_path, "torn", "{")
    assert told(str(tmp_path), gpus) == ({} if limit is None else {VARIABLE: str(limit)})


def test_without_limits_nothing_is_told(tmp_path: Path) -> None:
    assert told(str(tmp_path), None) == {}
