"""Checkpoints: whole or not there, proven when read, the right ones kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from stages.lib import checkpoint, files  # noqa: E402
from stages.lib.checkpoint import Evaluation, TrainState  # noqa: E402
from stages.lib.stage import StageError  # noqa: E402


def state(step: int, *losses: float) -> TrainState:
    history = tuple(Evaluation(step=n * 10, loss=v, bits_per_byte=v, minutes=n) for n, v in enumerate(losses, 1))
    return TrainState(step=step, epoch=0, rows_into_epoch=step, trained_s=1.5, history=history, made_with={"a": "1"})


def tensors(value: float) -> dict[str, dict[str, Any]]:
    return {"weights": {"w": torch.full((3, 2), value)}, "moments": {"w/step": torch.tensor(value)}}


def spoken() -> tuple[list[str], Any]:
    said: list[str] = []
    return said, said.append


def test_what_was_saved_comes_back_bit_for_bit(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, state(10, 3.0), tensors(0.1))
    found = checkpoint.newest(tmp_path, pytest.fail)
    assert found is not None and found.state == state(10, 3.0) and found.name == "step-00000010"
    assert torch.equal(found.tensors["weights"]["w"], torch.full((3, 2), 0.1))


@pytest.mark.parametrize("name", ["weights.safetensors", "moments.safetensors", "state.json", "index.json"])
@pytest.mark.parametrize("harm", ["cut", "flip", "gone"])
def test_a_harmed_checkpoint_is_named_and_the_one_before_is_used(tmp_path: Path, name: str, harm: str) -> None:
    """ALB-096: a torn file was loaded as if it were whole."""
    checkpoint.save(tmp_path, state(10), tensors(1.0))
    path = checkpoint.save(tmp_path, state(20), tensors(2.0)) / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data if harm == "flip" else data[: len(data) // 2])
    if harm == "gone":
        path.unlink()
    said, say = spoken()
    found = checkpoint.newest(tmp_path, say)
    assert found is not None and found.state.step == 10
    assert len(said) == 1 and "step-00000020" in said[0] and (name in said[0] or name == "index.json")
    assert (tmp_path / "step-00000020").is_dir()


def test_a_power_cut_before_the_rename_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint.save(tmp_path, state(10), tensors(1.0))
    before = files.digest_path(tmp_path / "step-00000010")

    def cut(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "sync_tree", cut)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save(tmp_path, state(20), tensors(2.0))
    assert checkpoint.names(tmp_path) == ["step-00000010"]
    assert files.digest_path(tmp_path / "step-00000010") == before


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """ALB-107: metadata with one key twice was read differently by two readers."""
    path = checkpoint.save(tmp_path, state(10), tensors(1.0))
    (path / "index.json").write_text((path / "index.json").read_text().replace("{", '{"version": 2,', 1))
    with pytest.raises(StageError, match="version stands there twice"):
        checkpoint.load(path)


def test_the_state_has_one_schema_and_is_checked_when_written_and_read(tmp_path: Path) -> None:
    """U-13: two writers gave one file two schemas."""
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        state(-1)
    path = checkpoint.save(tmp_path, state(10), tensors(1.0))
    told = json.loads((path / "state.json").read_text())
    assert told["version"] == 1
    for harm in ({**told, "version": 2}, {**told, "extra": 1}, {k: v for k, v in told.items() if k != "epoch"}):
        (path / "state.json").write_bytes(files.canonical_json(harm))
        index = {"state.json": files.digest_path(path / "state.json")}
        (path / "index.json").write_bytes(files.canonical_json({"version": 1, "files": index}))
        with pytest.raises(StageError, match="TrainState"):
            checkpoint.load(path)


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    losses = [3.0, 1.0, 2.0, 2.5, 2.6]
    for number in range(1, 6):
        checkpoint.save(tmp_path, state(10 * number, *losses[:number]), tensors(1.0))
    checkpoint.prune(tmp_path, 2, state(50, *losses).history)
    assert checkpoint.names(tmp_path) == ["step-00000050", "step-00000040", "step-00000020"]
