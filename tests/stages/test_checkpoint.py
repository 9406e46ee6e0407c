"""Checkpoints: whole or not there, proven when read, the right ones kept."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from stages.lib import checkpoint, files, random_state, tensors_file  # noqa: E402
from stages.lib.checkpoint import Evaluation, TrainState  # noqa: E402
from stages.lib.stage import StageError  # noqa: E402


def state(step: int, *losses: float) -> TrainState:
    history = tuple(Evaluation(step=n * 10, loss=v, bits_per_byte=v, minutes=n) for n, v in enumerate(losses, 1))
    return TrainState(step=step, epoch=0, rows_into_epoch=step, trained_s=1.5, history=history, made_with={"a": "1"})


def tensors(value: float) -> dict[str, dict[str, Any]]:
    return {"weights": {"w": torch.full((3, 2), value)}, "moments": {"w/step": torch.tensor(value)}}


def saved(folder: Path, state: TrainState, tensors: dict[str, dict[str, Any]], keep: int = 99) -> Path:
    """One checkpoint, whole on the disk."""
    writer = checkpoint.Writer(folder, keep)
    writer.save(state, tensors)
    writer.wait()
    return folder / f"step-{state.step:08d}"


def spoken() -> tuple[list[str], Any]:
    said: list[str] = []
    return said, said.append


def test_what_was_saved_comes_back_bit_for_bit(tmp_path: Path) -> None:
    saved(tmp_path, state(10, 3.0), tensors(0.1))
    found = checkpoint.newest(tmp_path, pytest.fail)
    assert found is not None and found.state == state(10, 3.0) and found.name == "step-00000010"
    assert torch.equal(found.tensors["weights"]["w"], torch.full((3, 2), 0.1))


@pytest.mark.parametrize("name", ["weights.safetensors", "moments.safetensors", "state.json", "index.json"])
@pytest.mark.parametrize("harm", ["cut", "flip", "gone"])
def test_a_harmed_checkpoint_is_named_and_the_one_before_is_used(tmp_path: Path, name: str, harm: str) -> None:
    """ALB-096: a torn file was loaded as if it were whole."""
    saved(tmp_path, state(10), tensors(1.0))
    path = saved(tmp_path, state(20), tensors(2.0)) / name
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
    saved(tmp_path, state(10), tensors(1.0))
    before = files.digest_path(tmp_path / "step-00000010")

    def cut(_: Path) -> None:
        raise SystemError

    monkeypatch.setattr(files, "sync_tree", cut)
    with pytest.raises(SystemError):
        saved(tmp_path, state(20), tensors(2.0))
    assert checkpoint.names(tmp_path) == ["step-00000010"]
    assert files.digest_path(tmp_path / "step-00000010") == before


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """ALB-107: metadata with one key twice was read differently by two readers."""
    path = saved(tmp_path, state(10), tensors(1.0))
    (path / "index.json").write_text((path / "index.json").read_text().replace("{", '{"version": 2,', 1))
    with pytest.raises(StageError, match="version stands there twice"):
        checkpoint.load(path)


def test_the_state_has_one_schema_and_is_checked_when_written_and_read(tmp_path: Path) -> None:
    """U-13: two writers gave one file two schemas."""
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        state(-1)
    path = saved(tmp_path, state(10), tensors(1.0))
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
        saved(tmp_path, state(10 * number, *losses[:number]), tensors(1.0), keep=2)
    assert checkpoint.names(tmp_path) == ["step-00000050", "step-00000040", "step-00000020"]


def test_a_checkpoint_under_the_name_of_another_step_is_refused(tmp_path: Path) -> None:
    shutil.copytree(saved(tmp_path, state(10), tensors(1.0)), tmp_path / "step-00000020")
    said, say = spoken()
    found = checkpoint.newest(tmp_path, say)
    assert found is not None and found.name == "step-00000010"
    assert len(said) == 1 and "step-00000020 holds the state after step 10" in said[0]


def test_where_no_checkpoint_is_whole_nothing_is_gone_on_from_and_where_there_is_none_a_run_begins(tmp_path: Path) -> None:
    """F-CRASH-001: reported as lost, and not begun anew in silence."""
    assert checkpoint.newest(tmp_path, pytest.fail) is None
    (saved(tmp_path, state(10), tensors(1.0)) / "state.json").unlink()
    said, say = spoken()
    with pytest.raises(StageError, match=r"none of the checkpoints in .* is whole"):
        checkpoint.newest(tmp_path, say)
    assert len(said) == 1 and "step-00000010 is skipped" in said[0]


@pytest.mark.parametrize("how", ["prune", "go back"])
def test_a_kill_while_a_checkpoint_is_removed_leaves_no_half_of_it_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str,
) -> None:
    for step in (10, 20):
        saved(tmp_path, state(step), tensors(1.0))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path: ((path / "index.json").unlink(), pytest.exit("killed"))[0])
        with pytest.raises(pytest.exit.Exception):
            checkpoint.prune(tmp_path, 1, ()) if how == "prune" else checkpoint.Writer(tmp_path, 9).drop_after(10)
    (left,) = checkpoint.names(tmp_path)
    assert checkpoint.load(tmp_path / left).name == {"prune": "step-00000020", "go back": "step-00000010"}[how]
    checkpoint.Writer(tmp_path, 9)
    assert [entry.name for entry in tmp_path.iterdir()] == [left]


def test_what_comes_from_a_card_is_there_before_training_changes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ALB-065: copies that run beside the processor were used before they had ended. A card in words."""
    copied: list[dict[str, Any]] = []
    waited: list[int] = []

    class Beside(tensors_file.Staged):
        def __init__(self, group: dict[str, Any], *, pinned: bool) -> None:
            assert pinned
            super().__init__(group, pinned=False)

        def copy(self, group: dict[str, Any]) -> None:
            super().copy(group)
            copied.append(group)

    class Stream:
        def synchronize(self) -> None:
            waited.append(len(copied))

    monkeypatch.setattr(tensors_file, "Staged", Beside)
    monkeypatch.setattr(checkpoint, "_cards", lambda _tensors: {torch.device("cuda", 0)})
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _device: Stream())
    writer = checkpoint.Writer(tmp_path, 9)
    writer.save(state(10), tensors(1.0))
    assert waited == [2]
    writer.wait()


EVERY_KIND = {
    "f32": torch.arange(6.0).reshape(2, 3), "f64": torch.tensor([0.1], dtype=torch.float64), "f16": torch.tensor([[0.25]]).half(),
    "bf16": torch.tensor([1.5, 2.5, 3.5]).bfloat16(), "i64": torch.tensor(-7), "u8": torch.arange(5, dtype=torch.uint8),
    "empty": torch.empty(0, 4), "flag": torch.tensor([True, False]), "turned": torch.arange(6.0).reshape(2, 3).T,
}


def test_files_are_those_of_the_safetensors_format(tmp_path: Path) -> None:
    """ALB-086: shapes were lost. Any reader of safetensors finds names, types, shapes and values."""
    import safetensors.torch

    path = saved(tmp_path, state(10), {"weights": EVERY_KIND}) / "weights.safetensors"
    found, ours = safetensors.torch.load_file(path), checkpoint.load(path.parent).tensors["weights"]
    assert found.keys() == ours.keys() == EVERY_KIND.keys()
    for name, tensor in EVERY_KIND.items():
        assert found[name].dtype == ours[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor) and torch.equal(ours[name], tensor)


def test_any_changed_byte_of_any_file_is_found(tmp_path: Path) -> None:
    """ALB-096, F-CKPT-001."""
    path = saved(tmp_path, state(10, 3.0), tensors(0.1))
    dice = random.Random(1)
    assert sorted(file.name for file in path.iterdir()) == ["index.json", "moments.safetensors", "state.json", "weights.safetensors"]
    for file in path.iterdir():
        good = file.read_bytes()
        for place in range(len(good)):
            bad = bytearray(good)
            bad[place] ^= dice.randrange(1, 256)
            file.write_bytes(bad)
            with pytest.raises(StageError, match=r"step-00000010|not good JSON"):
                checkpoint.load(path)
        file.write_bytes(good)
    assert checkpoint.load(path).state.step == 10


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("call", ["write", "fsync", "mkdir", "rename"])
def test_a_disk_that_fails_at_any_moment_loses_nothing_and_says_what_to_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, call: str,
) -> None:
    """A save that fails is an error of the next save or wait, and the one before it stays the newest."""
    saved(tmp_path, state(10), tensors(1.0))
    before = files.digest_path(tmp_path / "step-00000010")
    owner: Any = {"write": tensors_file.os, "fsync": os, "mkdir": Path, "rename": Path}[call]
    real, number = getattr(owner, call), 1
    while True:
        calls: list[int] = []

        def failing(*args: Any, calls: list[int] = calls, number: int = number, **named: Any) -> Any:
            calls.append(1)
            if len(calls) == number:
                raise OSError(code, os.strerror(code))
            return real(*args, **named)

        monkeypatch.setattr(owner, call, failing)
        writer = checkpoint.Writer(tmp_path, 9)
        writer.save(state(20), tensors(2.0))
        writer.close()
        monkeypatch.setattr(owner, call, real)
        if len(calls) < number:
            break
        with pytest.raises(StageError, match=rf"step 20 could not be written: {os.strerror(code)}; it needs .* free on the disk of "):
            writer.save(state(30), tensors(3.0))
        assert {"step-00000010"} <= set(checkpoint.names(tmp_path)) <= {"step-00000010", "step-00000020"}
        assert not [entry for entry in tmp_path.iterdir() if "partial" in entry.name]
        assert files.digest_path(tmp_path / "step-00000010") == before
        found = checkpoint.newest(tmp_path, pytest.fail)
        assert found is not None and torch.equal(found.tensors["weights"]["w"], torch.full((3, 2), found.state.step / 10))
        number += 1
    assert number > 1


def slow(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Writing waits for this event."""
    go = threading.Event()
    write = tensors_file.Staged.write
    monkeypatch.setattr(tensors_file.Staged, "write", lambda self, path: (go.wait(30), write(self, path))[1])
    return go


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Practice 6: what is written is what was there at the save, whatever changes afterwards."""
    go = slow(monkeypatch)
    writer, values = checkpoint.Writer(tmp_path, 9), tensors(1.0)
    writer.save(state(10), values)
    values["weights"]["w"].fill_(5.0)
    values["moments"]["w/step"].fill_(5.0)
    assert checkpoint.names(tmp_path) == []
    go.set()
    writer.save(state(20), values)
    writer.wait()
    assert checkpoint.names(tmp_path) == ["step-00000020", "step-00000010"]
    found = [checkpoint.load(tmp_path / name).tensors for name in checkpoint.names(tmp_path)]
    assert [float(one["weights"]["w"][0, 0]) for one in found] == [5.0, 1.0]
    assert [float(one["moments"]["w/step"]) for one in found] == [5.0, 1.0]


def test_a_save_waits_for_the_one_under_way_and_the_run_is_seen_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = slow(monkeypatch)
    beats: list[list[str]] = []

    def beat() -> None:
        beats.append(checkpoint.names(tmp_path))
        go.set()

    writer = checkpoint.Writer(tmp_path, 9, beat=beat)
    writer.save(state(10), tensors(1.0))
    writer.save(state(20), tensors(2.0))
    assert beats[0] == [] and checkpoint.names(tmp_path)[-1] == "step-00000010"
    writer.wait()
    assert checkpoint.names(tmp_path) == ["step-00000020", "step-00000010"]


def test_other_tensors_than_last_time_are_written_as_they_are(tmp_path: Path) -> None:
    """Moments are there from the first step on, and host buffers are used again."""
    writer = checkpoint.Writer(tmp_path, 9)
    one, two = {"a": {"x": torch.ones(2)}}, {"a": {"x": torch.ones(3)}, "b": {"y": torch.zeros(1)}}
    for step, groups in enumerate((one, two, {"b": {"y": torch.ones(1)}})):
        writer.save(state(step), groups)
        writer.wait()
        found = checkpoint.load(tmp_path / f"step-{step:08d}").tensors
        assert {stem: {name: value.tolist() for name, value in group.items()} for stem, group in found.items()} == {
            stem: {name: value.tolist() for name, value in group.items()} for stem, group in groups.items()}


def test_the_first_save_finds_the_room_it_needs_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking it stalled training for as long as half a torch.save."""
    writer = checkpoint.Writer(tmp_path, 9)
    writer.prepare(tensors(1.0))
    writer.wait()
    monkeypatch.setattr(tensors_file, "Staged", lambda *_args, **_named: pytest.fail("room is taken while training waits"))
    writer.save(state(10), tensors(2.0))
    writer.wait()
    assert torch.equal(checkpoint.load(tmp_path / "step-00000010").tensors["weights"]["w"], torch.full((3, 2), 2.0))


def test_the_last_save_takes_no_room_and_writes_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy of weights and moments beside them was the fullest moment of a run that saves once, at its end."""
    groups = {"weights": {"w": torch.arange(6.0).reshape(2, 3).t(), "b": torch.ones(3, dtype=torch.int8)}, "empty": {}}
    staged = saved(tmp_path / "staged", state(10), groups)
    monkeypatch.setattr(tensors_file, "Staged", lambda *_args, **_named: pytest.fail("room is taken"))
    writer = checkpoint.Writer(tmp_path / "live", 9)
    writer.save(state(10), groups, goes_on=False)
    writer.wait()
    assert files.digest_path(tmp_path / "live" / "step-00000010") == files.digest_path(staged)


def test_room_that_cannot_be_taken_is_told_by_the_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: Any, **_named: Any) -> None:
        raise MemoryError("no room")

    writer = checkpoint.Writer(tmp_path, 9)
    monkeypatch.setattr(tensors_file, "Staged", full)
    writer.prepare(tensors(1.0))
    writer.wait()
    with pytest.raises(MemoryError, match="no room"):
        writer.save(state(10), tensors(2.0))


def test_the_checkpoint_gone_on_from_is_never_written_again(tmp_path: Path) -> None:
    """ALB-132: its weights were replaced by others."""
    path = saved(tmp_path, state(10), tensors(1.0))
    before = files.digest_path(path), path.stat().st_mtime_ns
    writer = checkpoint.Writer(tmp_path, 9, resumed_from=10)
    writer.save(state(10), tensors(2.0))
    writer.wait()
    assert (files.digest_path(path), path.stat().st_mtime_ns) == before


def test_what_a_killed_process_left_half_written_goes_with_the_next_start(tmp_path: Path) -> None:
    for name in ("step-00000007.partial-999999999", "step-00000008.old-999999999", "step-00000009.partial-1"):
        (tmp_path / name).mkdir()
    checkpoint.Writer(tmp_path, 9)
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-00000009.partial-1"]


def test_counters_come_back_equal_and_what_is_no_json_is_refused(tmp_path: Path) -> None:
    """ALB-087, U-13: patience and averages were lost with a restart."""
    counters = {"patience": 3, "scale": 65536.0, "ema": [0.1, 1 / 3, 1e-300], "since": None, "named": {"a": "b"}, "on": True}
    kept = TrainState(**{**state(10).model_dump(), "counters": counters})
    saved(tmp_path, kept, tensors(1.0))
    found = checkpoint.newest(tmp_path, pytest.fail)
    assert found is not None and found.state == kept and found.state.counters == counters
    for bad in ({"a": float("nan")}, {"a": [float("inf")]}, {"a": {1, 2}}, {"a": torch.ones(1)}, {1: 2}):
        with pytest.raises(ValueError, match=r"counters|JSON|Out of range|valid"):
            TrainState(**{**state(10).model_dump(), "counters": bad})


def test_every_random_generator_goes_on_where_it_was() -> None:
    """Practice 5: the seed was saved and the state was not."""
    cpu = torch.device("cpu")

    def drawn() -> list[float]:
        ours = [random.random(), random.gauss(0, 1), float(np.random.rand()), float(np.random.randn())]
        return [*ours, float(torch.rand(1)), float(torch.randn(1))]

    random_state.seed(7)
    drawn()
    kept = random_state.captured(cpu)
    after = [drawn() for _ in range(3)]
    random_state.seed(8)
    assert drawn() != after[0]
    random_state.restore(kept, cpu)
    assert [drawn() for _ in range(3)] == after
