"""The log of the rows that each step read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from stages.lib.loader import Place
from stages.lib.row_log import RowLog


def wrote(path: Path, resumed_step: int, steps: range) -> list[int]:
    log = RowLog(path, resumed_step)
    for step in steps:
        log.write(step, Place(0, 0, 8 * step), [step, step + 1])
    log.sync()
    log.close()
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_a_step_has_one_line_that_names_its_rows(tmp_path: Path) -> None:
    wrote(tmp_path / "rows.jsonl", 0, range(1, 3))
    first = json.loads((tmp_path / "rows.jsonl").read_text().splitlines()[0])
    assert first == {"step": 1, "data": 0, "epoch": 0, "rows": [1, 2]}


@pytest.mark.parametrize("tail", [b"", b'{"step":9,"data', b"\0" * 20 + b"\n", b'{"step":9,"data":0,"epoch":0,"rows":[1]}\n'])
def test_what_was_read_after_the_step_gone_on_from_is_cut_off(tmp_path: Path, tail: bytes) -> None:
    """ALB-120: no step is named twice and none is left out."""
    path = tmp_path / "rows.jsonl"
    wrote(path, 0, range(1, 9))
    with path.open("ab") as file:
        file.write(tail)
    assert wrote(path, 5, range(6, 8)) == list(range(1, 8))
    with path.open("ab") as file:
        file.write(tail)
    assert wrote(path, 7, range(8, 9)) == list(range(1, 9))
    assert wrote(path, 0, range(1, 3)) == [1, 2]


def test_a_power_cut_does_not_take_the_file_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that are durable in a file whose name is not would be a gap before the checkpoint gone on from."""
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink()))
    wrote(tmp_path / "rows.jsonl", 0, range(1, 3))
    assert synced == [tmp_path]
