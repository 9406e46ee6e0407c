"""What becomes of a run whose steps break: skipped, gone back from, ended, and stopped or killed on the way."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support_data import tree
from support_model import corpus, metrics, pretrain, settings

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from stages.lib import checkpoint  # noqa: E402
from stages.lib.stage import StageError  # noqa: E402
from stages.lib.trainer import Gradients, Trainer  # noqa: E402

LONG = {"training__epochs": 9, "training__max_steps": 20}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Makes what is learned at some positions of the data look broken; gives the list of positions asked for."""
    real = Trainer.gradients

    def put(**broken: dict[int, float]) -> list[int]:
        asked: list[int] = []

        def gradients(self: Trainer, position: int, look: bool = False) -> Gradients:
            asked.append(position)
            found = real(self, position, look)
            return replace(found, **{name: places[position] for name, places in broken.items() if position in places})

        monkeypatch.setattr(Trainer, "gradients", gradients)
        return asked

    return put


def warnings(attempt: Path) -> list[str]:
    return [line["warning"] for line in metrics(attempt) if "warning" in line]


def test_a_step_that_is_no_number_is_skipped_and_the_run_goes_on(data: Path, tmp_path: Path, breaking: Any) -> None:
    breaking(loss={4: math.nan}, norm={9: math.inf})
    report = pretrain(settings(data, tmp_path / "out", **LONG, watch={"spikes": True}), tmp_path / "run")
    assert report.metrics["skipped_steps"] == 2 and report.metrics["steps"] == 20
    assert warnings(tmp_path / "run") == [
        "the loss of step 4 is nan; the step is skipped", "the gradient of step 9 is inf; the step is skipped"]
    saved = checkpoint.load(tmp_path / "run/work/checkpoints/step-00000020")
    moves = {int(value) for name, value in saved.tensors["moments"].items() if name.endswith("/step")}
    assert moves == {18}, "the optimizer stepped where nothing was to be learned"
    learned = float(report.metrics["tokens_per_s"]) * float(report.metrics["seconds_in_steps"])
    assert learned == pytest.approx(18 * 8 * 15), "tokens of skipped steps were counted as trained"


def test_a_spike_goes_back_to_the_last_good_weights_and_on_with_other_rows(data: Path, tmp_path: Path, breaking: Any) -> None:
    """Practice 16: the rollback was only printed."""
    asked = breaking(loss={12: 99.0})
    values = settings(data, tmp_path / "out", **LONG, watch={"spikes": True}, training__row_log=True)
    report = pretrain(values, tmp_path / "run")
    assert asked == [*range(1, 13), *range(13, 23)], "steps 11 to 20 read positions 13 to 22"
    assert report.metrics["rollbacks"] == 1
    told = next(line for line in metrics(tmp_path / "run") if "rolled_back_to" in line)
    assert (told["step"], told["rolled_back_to"]) == (12, 10) and "over 3 times" in told["warning"]
    logged = [json.loads(line)["step"] for line in (tmp_path / "run/work/rows.jsonl").read_text().splitlines()]
    assert logged == list(range(1, 21))
    losses = {line["step"]: line["loss"] for line in metrics(tmp_path / "run") if "loss" in line}
    assert losses[11] < 20


def test_weights_after_going_back_are_those_of_a_run_that_never_saw_the_bad_rows(data: Path, tmp_path: Path, breaking: Any) -> None:
    breaking(loss={12: 99.0})
    pretrain(settings(data, tmp_path / "out", **LONG, watch={"spikes": True}), tmp_path / "run")
    real = Trainer.gradients
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "gradients", lambda self, position, look=False: real(self, position + 2 * (position > 10), look))
        pretrain(settings(data, tmp_path / "other", **LONG, watch={"spikes": True}), tmp_path / "straight")
    a, b = tree(tmp_path / "out"), tree(tmp_path / "other")
    assert a["model.safetensors"] == b["model.safetensors"]


def test_going_back_writes_no_checkpoint_again_and_shows_no_step_twice(
    data: Path, tmp_path: Path, breaking: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A kill while the only checkpoint was replaced lost it; step 10 was shown again with the figures of step 11."""
    breaking(loss={12: 99.0})
    saved: list[int] = []
    save = checkpoint.Writer.save
    monkeypatch.setattr(checkpoint.Writer, "save", lambda self, state, *given, **named: (
        saved.append(state.step), save(self, state, *given, **named))[1])
    pretrain(settings(data, tmp_path / "out", **LONG, watch={"spikes": True}, training__log_interval=5), tmp_path / "run")
    assert saved == [5, 10, 15, 20]
    assert [line["step"] for line in metrics(tmp_path / "run") if "loss" in line] == [5, 10, 15, 20]


def test_going_back_waits_for_the_checkpoint_that_is_being_written(
    data: Path, tmp_path: Path, breaking: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:
    breaking(loss={12: 99.0})
    write = checkpoint.Writer._write
    monkeypatch.setattr(checkpoint.Writer, "_write", lambda *given: (time.sleep(0.5), write(*given))[1])
    report = pretrain(settings(data, tmp_path / "out", **LONG, watch={"spikes": True}), tmp_path / "run")
    assert (report.metrics["rollbacks"], report.metrics["steps"]) == (1, 20)


def test_the_checkpoint_to_go_back_to_is_kept_beyond_the_newest(data: Path, tmp_path: Path, breaking: Any) -> None:
    """Each step saves, two are kept, and three broken ones in a row go back to the one before them."""
    breaking(norm=dict.fromkeys((4, 5, 6), math.nan))
    values = settings(data, tmp_path / "out", **LONG, watch={"spikes": True}, training__checkpoint_interval=1, training__keep=2)
    report = pretrain(values, tmp_path / "run")
    told = next(line for line in metrics(tmp_path / "run") if "rolled_back_to" in line)
    assert (told["step"], told["rolled_back_to"], report.metrics["steps"]) == (6, 2, 20)


def test_where_the_checkpoint_to_go_back_to_is_torn_it_is_the_one_before_it(
    data: Path, tmp_path: Path, breaking: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The run ended there, and did so again at each start: it went on from the same checkpoint to the same spike."""
    asked = breaking(loss={12: 99.0})
    put = checkpoint.Writer._write

    def torn(self: checkpoint.Writer, *given: Any) -> None:
        put(self, *given)
        for weights in self.folder.glob("step-00000010/weights.safetensors"):
            weights.write_bytes(weights.read_bytes()[:-7])

    with monkeypatch.context() as until_the_spike:
        until_the_spike.setattr(checkpoint.Writer, "_write", torn)
        with pytest.raises(StageError, match="is whole"):
            values = settings(data, tmp_path / "none/out", **LONG, watch={"spikes": True}, training__checkpoint_interval=10)
            pretrain(values, tmp_path / "none")
    asked.clear()
    monkeypatch.setattr(checkpoint.Writer, "_write", torn)
    values = settings(data, tmp_path / "out", **LONG, watch={"spikes": True}, training__row_log=True)
    report = pretrain(values, tmp_path / "run")
    assert report.metrics["steps"] == 20
    assert asked == [*range(1, 13), *range(13, 28)], "steps 6 to 20 read positions 13 to 27"
    told = next(line for line in metrics(tmp_path / "run") if "rolled_back_to" in line)
    assert told["rolled_back_to"] == 5 and told["warning"].endswith("that checkpoint is harmed, so it is step 5")
    assert [line["step"] for line in map(json.loads, (tmp_path / "run/work/rows.jsonl").read_text().splitlines())] == list(range(1, 21))


def test_going_back_beyond_what_a_run_went_on_from_writes_that_step_anew(data: Path, tmp_path: Path, breaking: Any) -> None:
    """It is no longer the checkpoint it began with, which is gone."""
    folder = tmp_path / "work/checkpoints"
    values = settings(data, tmp_path / "out", **LONG, watch={"spikes": {"max_rollbacks": 1}}, training__keep=9)
    breaking(loss={11: 0.0})
    with pytest.raises(StageError, match="exactly 0"):
        pretrain(values, tmp_path / "run-1", tmp_path / "work")
    assert checkpoint.names(folder) == ["step-00000010", "step-00000005"]
    asked = breaking(loss={11: 99.0})
    pretrain(values, tmp_path / "run-2", tmp_path / "work")
    assert asked[:3] == [11, 12, 13], "after step 5 on with the rows after the spike"
    assert checkpoint.names(folder) == [f"step-000000{step}" for step in ("20", "15", "10", "05")]


def test_skipped_steps_are_counted_over_a_crash(data: Path, tmp_path: Path, breaking: Any) -> None:
    """The report of a run that went on told those of its last process only."""
    values = settings(data, tmp_path / "out", **LONG, watch={"spikes": {"max_rollbacks": 0}})
    breaking(loss={3: math.nan, 8: 99.0})
    with pytest.raises(StageError, match="after going back 0 times"):
        pretrain(values, tmp_path / "run-1", tmp_path / "work")
    breaking(loss={8: 4.0, 12: math.nan})
    report = pretrain(values, tmp_path / "run-2", tmp_path / "work")
    assert (report.metrics["resumed_from"], report.metrics["skipped_steps"]) == (5, 2)


def test_a_stop_after_going_back_saves_what_is_made_anew(
    data: Path, tmp_path: Path, breaking: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The checkpoint of step 15 was made, gone back from, and is asked for again by a signal while step 15 is validated."""
    breaking(loss={16: 99.0})
    validate = Trainer.validate
    seen: list[int] = []

    def stopped(self: Trainer, batches: Any) -> float:
        seen.append(1)
        if len(seen) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return validate(self, batches)

    monkeypatch.setattr(Trainer, "validate", stopped)
    with pytest.raises(SystemExit):
        pretrain(settings(data, tmp_path / "out", **LONG, watch={"spikes": True}), tmp_path / "run")
    newest = checkpoint.load(tmp_path / "run/work/checkpoints/step-00000015")
    guard: Any = newest.state.counters["watch"]
    assert guard["guard"]["rollbacks"] == 1, "it is the one from before going back"


def test_a_spike_before_the_first_checkpoint_begins_anew(data: Path, tmp_path: Path, breaking: Any) -> None:
    asked = breaking(loss={3: 99.0})
    pretrain(settings(data, tmp_path / "out", **LONG, watch={"spikes": True}), tmp_path / "run")
    assert asked == [1, 2, 3, *range(4, 24)]
    saved = checkpoint.load(tmp_path / "run/work/checkpoints/step-00000020")
    assert {int(value) for name, value in saved.tensors["moments"].items() if name.endswith("/step")} == {20}


def test_after_too_many_spikes_the_run_ends_and_says_what_is_sound(data: Path, tmp_path: Path, breaking: Any) -> None:
    breaking(loss=dict.fromkeys(range(16, 60), 99.0))
    with pytest.raises(StageError, match=r"after going back 3 times.*the checkpoint after step 10 is sound"):
        pretrain(settings(data, tmp_path / "out", **LONG, watch={"spikes": True}), tmp_path / "run")
    assert not (tmp_path / "out").exists()
    assert checkpoint.names(tmp_path / "run/work/checkpoints") == ["step-00000010"], "that of step 15 is not sound"
