"""What becomes of a run whose validations stand still, or whose data changes on the way, and what is shown of it."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from support_data import ROOT, config_of, tree
from support_model import corpus, metrics, pretrain, settings

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from stages.lib import checkpoint  # noqa: E402
from stages.lib.budget import flops_per_token  # noqa: E402
from stages.lib.devices import TABLE, Device  # noqa: E402
from stages.lib.loader import read_packed, read_rows  # noqa: E402
from stages.lib.loss import mean_loss  # noqa: E402
from stages.lib.row_log import RowLog  # noqa: E402
from stages.lib.session import Session  # noqa: E402
from stages.lib.stage import Run, StageError  # noqa: E402
from stages.lib.trainer import Gradients, Trainer  # noqa: E402
from stages.pretrain import plan  # noqa: E402

LONG = {"training__epochs": 9, "training__max_steps": 20}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus(tmp_path_factory.mktemp("corpus"))


def warnings(attempt: Path) -> list[str]:
    return [line["warning"] for line in metrics(attempt) if "warning" in line]


@pytest.mark.parametrize("before", [9.0, 1.0])
def test_patience_ends_a_run_and_the_best_weights_are_what_is_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: float,
) -> None:
    """AUTOEVAL-002, ALB-087: validations 7, 6.5, 6.8, 6.9, 7, 7.1 with patience 3 end after the fifth, whatever the one before training."""
    sequence = iter([before, 7.0, 6.5, 6.8, 6.9, 7.0, 7.1])
    monkeypatch.setattr(Trainer, "validate", lambda self, batches: next(sequence))
    every = {"training__eval_interval": 2, "training__checkpoint_interval": 2, "training__keep": 1}
    report = pretrain(settings(data, tmp_path / "out", **LONG, **every, watch={"patience": 3}), tmp_path / "run")
    lines = metrics(tmp_path / "run")
    assert [line["step"] for line in lines if "val" in line] == [0, 2, 4, 6, 8, 10]
    assert [line["best_val"] for line in lines if "val" in line] == [min(before, best) for best in (9.0, 7.0, 6.5, 6.5, 6.5, 6.5)]
    assert [line["best_val"] for line in lines if "loss" in line] == [min(before, best) for best in (9.0, 7.0, 7.0, *[6.5] * 7)]
    assert report.metrics["steps"] == 4 and report.metrics["val_loss"] == 6.5
    assert "ended early, after 10 of 20 steps; the weights are those after step 4" in report.headline
    best = checkpoint.load(tmp_path / "run/work/checkpoints/step-00000004").tensors["weights"]
    from safetensors.torch import load_file

    written = load_file(tmp_path / "out/model.safetensors")
    assert all(torch.equal(value, best[name]) for name, value in written.items())


def test_of_the_best_checkpoints_a_harmed_one_is_named_and_the_next_is_written(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ended the run with an error, and every further one too."""
    sequence = iter([9.0, 6.5, 6.6, 6.8, 6.9])
    takes = Session.take_best

    def harmed(self: Session) -> int:
        self.writer.wait()
        file = self.writer.folder / "step-00000002/weights.safetensors"
        file.write_bytes(file.read_bytes()[:-1])
        return takes(self)

    monkeypatch.setattr(Trainer, "validate", lambda self, batches: next(sequence))
    monkeypatch.setattr(Session, "take_best", harmed)
    every = {"training__eval_interval": 2, "training__checkpoint_interval": 2, "training__keep": 4}
    report = pretrain(settings(data, tmp_path / "out", **LONG, **every, watch={"patience": 3}), tmp_path / "run")
    assert (report.metrics["steps"], report.metrics["val_loss"]) == (4, 6.6)
    assert [text.partition(":")[0] for text in warnings(tmp_path / "run")][-1] == "checkpoint step-00000002 is skipped"


def test_a_run_out_of_patience_stays_so_when_it_goes_on(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """AUTOEVAL-001 with a crash: best and patience were forgotten by a restart."""
    def ends(self: Trainer, batches: Any) -> float:
        list(batches)
        return {0: 9.0, 2: 7.0}.get(self.seen, 8.0)  # type: ignore[attr-defined]

    real = Trainer.gradients

    def gradients(self: Trainer, position: int, look: bool = False) -> Gradients:
        self.seen = position  # type: ignore[attr-defined]
        if position == dies_at:
            raise StageError("the power is off")
        return real(self, position, look)

    monkeypatch.setattr(Trainer, "validate", ends)
    monkeypatch.setattr(Trainer, "gradients", gradients)
    monkeypatch.setattr(Trainer, "seen", 0, raising=False)
    every = {"training__eval_interval": 2, "training__checkpoint_interval": 2}
    values = settings(data, tmp_path / "out", **LONG, **every, watch={"patience": 3})
    for dies_at in (6, 8):
        with pytest.raises(StageError, match="the power is off"):
            pretrain(values, tmp_path / f"run-{dies_at}", tmp_path / "work")
    dies_at = 0
    report = pretrain(values, tmp_path / "run", tmp_path / "work")
    assert "ended early, after 8 of 20 steps" in report.headline[1]


def test_a_run_whose_checkpoints_are_all_harmed_does_not_begin_anew_by_itself(data: Path, tmp_path: Path) -> None:
    """F-CRASH-001: a week of training was lost without a word; now the run ends and says what there is to choose."""
    values = settings(data, tmp_path / "out")
    pretrain(values, tmp_path / "run-1", tmp_path / "work")
    states = sorted((tmp_path / "work/checkpoints").glob("*/state.json"))
    assert len(states) == 2
    for state in states:
        state.write_text(state.read_text().replace('"epoch": 0', '"epoch": 1'))
    with pytest.raises(StageError, match=r"none of the checkpoints in .* is whole.*remove them and the same command begins anew"):
        pretrain(values, tmp_path / "run-2", tmp_path / "work")
    assert not (tmp_path / "run-2/metrics.jsonl").exists() and all(state.exists() for state in states)


def test_the_rows_of_a_step_are_on_the_disk_before_its_checkpoint(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else a power cut leaves a checkpoint whose last steps the log of rows does not know: a gap."""
    durable: list[int] = []
    sync, save = RowLog.sync, checkpoint.Writer.save

    def synced(self: RowLog) -> None:
        sync(self)
        durable.append(json.loads((tmp_path / "run/work/rows.jsonl").read_text().splitlines()[-1])["step"])

    def saving(self: checkpoint.Writer, state: checkpoint.TrainState, *given: Any, **named: Any) -> None:
        assert durable[-1:] == [state.step]
        save(self, state, *given, **named)

    monkeypatch.setattr(RowLog, "sync", synced)
    monkeypatch.setattr(checkpoint.Writer, "save", saving)
    pretrain(settings(data, tmp_path / "out", training__row_log=True), tmp_path / "run")
    assert durable == [5, 10]


def test_without_a_card_no_figure_of_one_is_shown(data: Path, tmp_path: Path) -> None:
    """ALB-046: zeros were shown for what nobody had measured."""
    report = pretrain(settings(data, tmp_path / "out"), tmp_path / "run")
    shown = {key for line in metrics(tmp_path / "run") for key in line} | set(report.metrics)
    assert [key for key in shown if "mfu" in key or "gpu" in key or "cuda" in key] == []


def test_a_curriculum_switches_what_is_read(data: Path, tmp_path: Path) -> None:
    """Practice 53: the curriculum was only logged."""
    phases = [{"train": str(data / "packed/train"), "until_step": 4}]
    other = altered_copy(data, tmp_path / "other")
    values = settings(data, tmp_path / "out", **LONG, data__curriculum=phases, training__row_log=True)
    values["data"]["train"] = str(other / "packed/train")
    values["data"]["val"] = str(other / "packed/val")
    pretrain(values, tmp_path / "run")
    read = [json.loads(line) for line in (tmp_path / "run/work/rows.jsonl").read_text().splitlines()]
    assert [line["data"] for line in read] == [0] * 4 + [1] * 16
    with pytest.raises(StageError, match=r"data.curriculum.4 .* -> None"):
        values["data"]["curriculum"] = []
        pretrain(values, tmp_path / "again", tmp_path / "run/work")


def altered_copy(data: Path, folder: Path) -> Path:
    """The same rows under another path."""
    import shutil

    shutil.copytree(data / "packed", folder / "packed")
    return folder


@pytest.mark.parametrize(("phases", "said"), [
    ([("a", 5), ("b", 5)], "each until_step must be more than the one before"), ([("a", 20)], "less than max_steps 20"),
])
def test_phases_that_do_not_follow_one_another_are_refused(
    data: Path, tmp_path: Path, phases: list[tuple[str, int]], said: str,
) -> None:
    from stages.lib.problems import BadConfig

    with pytest.raises(BadConfig) as refused:
        config_of("pretrain", settings(data, tmp_path / "out", **LONG, data__curriculum=[
            {"train": name, "until_step": step} for name, step in phases]))
    assert said in refused.value.problems[0].text


def test_a_phase_that_asks_for_more_than_its_rows_is_refused_by_the_plan(data: Path, tmp_path: Path) -> None:
    other = altered_copy(data, tmp_path / "other") / "packed/train"
    reachable = json.loads((data / "packed/manifest.json").read_text())["train"]["rows"] // 8
    for steps in (reachable, reachable + 1):
        found = plan(config_of("pretrain", settings(
            data, tmp_path / "out", training__max_steps=steps + 1, training__epochs=1,
            data__curriculum=[{"train": str(other), "until_step": steps}])))
        told = [check.text for check in found.checks if "cannot be reached" in check.text]
        assert [text.startswith(f"the {steps} steps on {other} cannot be reached") for text in told] == [True] * (steps > reachable)


def test_an_alert_that_stops_leaves_a_checkpoint_of_its_step(data: Path, tmp_path: Path) -> None:
    alerts = [{"condition": "loss > 0.5", "action": "warn", "message": "high"}, {"condition": "step >= 7", "action": "stop"}]
    with pytest.raises(StageError, match=r"stopped after step 7 by the alert step >= 7"):
        pretrain(settings(data, tmp_path / "out", monitoring={"alerts": alerts}), tmp_path / "run")
    assert checkpoint.names(tmp_path / "run/work/checkpoints")[0] == "step-00000007"
    assert [text.startswith("alert: loss > 0.5") for text in warnings(tmp_path / "run")] == [True, False]


def test_few_rows_are_read_often_and_all_of_them_now_and_then(data: Path, tmp_path: Path) -> None:
    values = settings(data, tmp_path / "out", **LONG, training__eval_rows=4, training__full_eval_interval=2)
    report = pretrain(values, tmp_path / "run")
    lines = metrics(tmp_path / "run")
    assert [line["step"] for line in lines if "val" in line] == [0, 5, 10, 15, 20]
    assert [line["step"] for line in lines if "val_full" in line] == [10, 20]
    whole = pretrain(settings(data, tmp_path / "whole", **LONG), tmp_path / "run-whole")
    assert report.metrics["val_loss"] == whole.metrics["val_loss"], "what is reported is of all rows"
    assert lines[-2]["val_full"] == whole.metrics["val_loss"] or lines[-1].get("val_full") == whole.metrics["val_loss"]


def test_few_rows_are_taken_from_all_over_the_held_out_ones(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ones would be those of a few documents."""
    read: list[list[list[int]]] = []
    monkeypatch.setattr(Trainer, "validate", lambda self, batches: read.append([row for x, _ in batches for row in x.tolist()]) or 5.0)
    pretrain(settings(data, tmp_path / "out", training__eval_rows=4), tmp_path / "run")
    rows = read_rows(read_packed(data / "packed/val"))
    assert read[0] == read[1] == rows[np.arange(4) * len(rows) // 4][:, :-1].tolist()
    assert len(read[-1]) == len(rows) > 8


def test_validations_of_all_rows_are_remembered_over_a_crash(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"training__eval_rows": 4, "training__full_eval_interval": 1}
    pretrain(settings(data, tmp_path / "straight", **LONG, **few), tmp_path / "run-0")
    real, values = Trainer.gradients, settings(data, tmp_path / "out", **LONG, **few)

    def dying(self: Trainer, position: int, look: bool = False) -> Gradients:
        if position == 12:
            raise StageError("the power is off")
        return real(self, position, look)

    with monkeypatch.context() as patch, pytest.raises(StageError, match="the power is off"):
        patch.setattr(Trainer, "gradients", dying)
        pretrain(values, tmp_path / "run-1", tmp_path / "work")
    before_s = checkpoint.load(tmp_path / "work/checkpoints/step-00000010").state.trained_s
    report = pretrain(values, tmp_path / "run-2", tmp_path / "work")
    assert tree(tmp_path / "out") == tree(tmp_path / "straight")
    assert float(report.metrics["minutes"]) * 60 > before_s + float(report.metrics["seconds_in_steps"]), "time before a crash counts"
    assert len(json.loads((tmp_path / "out/training.json").read_text())["full_validation"]) == 4


def test_every_step_and_every_batch_of_a_validation_is_a_sign_of_life(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Practice 17: who waits for a heartbeat must not take a long validation, or a long time between two lines, for a hang."""
    signs: list[str] = []
    update, loss = Trainer.update, mean_loss
    monkeypatch.setattr(Run, "beat", lambda self: signs.append("beat"))
    monkeypatch.setattr(Trainer, "update", lambda self, *given: (signs.append("step"), update(self, *given))[1])

    def each(model: Any, batches: Any, *given: Any) -> float:
        return loss(model, (signs.append("batch") or batch for batch in batches), *given)

    monkeypatch.setattr("stages.lib.trainer.mean_loss", each)
    pretrain(settings(data, tmp_path / "out", training__log_interval=10), tmp_path / "run")
    between = [signs[number] for number in range(1, len(signs)) if signs[number - 1] == "step"]
    assert between == ["beat"] * 10
    assert [signs[number - 1] for number, sign in enumerate(signs) if sign == "batch"].count("beat") == signs.count("batch") > 3


def test_zclip_and_the_noise_scale_act_and_are_shown(data: Path, tmp_path: Path) -> None:
    """Practices 41 and 42: ZClip was only logged."""
    watch = {"noise_scale": True, "zclip": {"warmup": 2, "threshold": 0.01}}
    pretrain(settings(data, tmp_path / "out", **LONG, watch=watch, training__grad_clip=None), tmp_path / "clipped")
    pretrain(settings(data, tmp_path / "plain", **LONG, training__grad_clip=None), tmp_path / "free")
    assert tree(tmp_path / "out")["model.safetensors"] != tree(tmp_path / "plain")["model.safetensors"]
    assert any(line.get("noise_scale", 0) > 0 for line in metrics(tmp_path / "clipped"))


def test_the_noise_scale_shown_is_the_quotient_of_what_the_gradients_were(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Practice 41: small batches of 64 tokens beside whole ones of 128; (McCandlish et al. 2018, appendix A.1)."""
    seen: list[Gradients] = []
    real = Trainer.gradients
    monkeypatch.setattr(Trainer, "gradients", lambda self, position, look=False: seen.append(real(self, position, look)) or seen[-1])
    pretrain(settings(data, tmp_path / "out", **LONG, watch={"noise_scale": True}), tmp_path / "run")
    norms = [(one.micro_norm or 0.0, one.norm) for one in seen]
    strength = math.fsum((128 * big**2 - 64 * small**2) / (128 - 64) for small, big in norms)
    noise = math.fsum((small**2 - big**2) / (1 / 64 - 1 / 128) for small, big in norms)
    assert strength > 0 and metrics(tmp_path / "run")[-1]["noise_scale"] == pytest.approx(noise / strength)


def test_a_weight_that_gets_no_gradient_is_named(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ALB-038, practice 45."""
    real = Trainer.gradient_norms
    name = "model.layers.1.mlp.up_proj.weight"
    monkeypatch.setattr(Trainer, "gradient_norms", lambda self: {**real(self), name: 0.0})
    pretrain(settings(data, tmp_path / "out", watch={"dead": {"interval": 2, "looks": 2}}), tmp_path / "run")
    (told,) = warnings(tmp_path / "run")
    assert told.startswith(f"{name} has a gradient of 0") and "up to step 4" in told


def test_a_layer_that_does_not_move_is_named(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Practice 45: its gradients are sound, and what they lead to is lost."""
    real = Trainer.update

    def update(self: Trainer, lr: float, max_norm: float | None) -> None:
        weights = list(self.model.model.layers[1].parameters())
        before = [weight.detach().clone() for weight in weights]
        real(self, lr, max_norm)
        for weight, was in zip(weights, before, strict=True):
            weight.data.copy_(was)

    monkeypatch.setattr(Trainer, "update", update)
    pretrain(settings(data, tmp_path / "out", watch={"dead": {"interval": 2, "looks": 2}}), tmp_path / "run")
    assert warnings(tmp_path / "run") == ["model.layers.1 has not moved in 2 looks up to step 6"]


def test_a_run_that_will_gain_little_is_told_so(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    sequence = iter([9.0, 7.0, 6.99, 6.98, 6.97, *[6.96] * 6])
    monkeypatch.setattr(Trainer, "validate", lambda self, batches: next(sequence))
    pretrain(settings(data, tmp_path / "out", **LONG, training__eval_interval=2), tmp_path / "run")
    (told,) = [line for line in metrics(tmp_path / "run") if "warning" in line]
    assert told["step"] == 8 and told["warning"].startswith("after 40% of the tokens the loss is 6.970 and is forecast to end at")
    assert f"warning: {told['warning']}" in capsys.readouterr().err


@pytest.fixture
def peak(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Trains as on a card of the table whose peak is so many operations a second."""

    def put(operations_per_s: float) -> None:
        known = Device("Small", None, 10 * operations_per_s, operations_per_s, 0.0, "its maker")
        real = Session.__post_init__

        def begin(self: Session) -> None:
            real(self)
            self.device = known

        monkeypatch.setitem(cast("dict[str, Device]", TABLE), "small", known)
        monkeypatch.setattr(Session, "__post_init__", begin)

    return put


def test_a_run_writes_its_share_of_the_peak_with_that_peak(data: Path, tmp_path: Path, peak: Callable[[float], None]) -> None:
    """F-MFU-001, practice 28."""
    peak(1e12)
    values = settings(data, tmp_path / "out")
    pretrain(values, tmp_path / "run")
    config = config_of("pretrain", values)
    lines = [line for line in metrics(tmp_path / "run") if "loss" in line]
    assert len(lines) == 10
    for line in lines:
        assert line["mfu"] == pytest.approx(line["tokens_per_s"] * flops_per_token(config.model, 16) / 1e12)
        assert (line["mfu_of"], line["mfu_source"]) == ("1 TFLOP/s fp32", "Small: its maker")
    (told,) = warnings(tmp_path / "run")
    assert told.startswith("warning: MFU ") and "under 1%, so the device mostly waits" in told


def test_a_share_of_the_peak_that_cannot_be_is_told_as_an_error_and_ends_no_training(
    data: Path, tmp_path: Path, peak: Callable[[float], None],
) -> None:
    """F-MFU-001: more than 100 % is an error of the figures, not of the model."""
    peak(1e3)
    pretrain(settings(data, tmp_path / "out"), tmp_path / "run")
    (told,) = warnings(tmp_path / "run")
    assert told.startswith("error: MFU ") and "more than the device can do" in told


def test_momentum_is_that_of_muon(data: Path, tmp_path: Path) -> None:
    losses = {}
    for momentum in (0.95, 0.5):
        values = settings(data, tmp_path / f"out-{momentum}", optimizer__name="muon", optimizer__momentum=momentum)
        losses[momentum] = pretrain(values, tmp_path / f"run-{momentum}").metrics["val_loss"]
    assert losses[0.95] != losses[0.5]


@pytest.mark.parametrize("values", [
    {"training__ema": 0.9}, {"optimizer__name": "muon"}, {"training__activation_checkpointing": True, "training__z_loss": 0.001},
    {"training__schedule": "wsd"}, {"training__deterministic": True},
])
def test_equal_runs_with_an_option_write_equal_bytes_and_learn(data: Path, tmp_path: Path, values: dict[str, Any]) -> None:
    for name in ("a", "b"):
        report = pretrain(settings(data, tmp_path / name, **LONG, **values), tmp_path / f"run-{name}")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert report.metrics["val_bits_per_byte"] < report.metrics["before_bits_per_byte"] - 0.2


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device to train on")
def test_equal_deterministic_runs_on_a_card_write_equal_bytes(data: Path, tmp_path: Path) -> None:
    """Practice 84."""
    for name in ("a", "b"):
        values = settings(data, tmp_path / name, **LONG, training__device="cuda", training__dtype="bf16", training__deterministic=True)
        pretrain(values, tmp_path / f"run-{name}")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device to train on")
def test_a_run_on_a_card_that_waits_for_every_kernel_learns_the_same_bits(data: Path, tmp_path: Path) -> None:
    """ALB-065: copies that run beside the processor were used before they had ended."""
    for blocking in ("0", "1"):
        often = {"training__checkpoint_interval": 2, "training__eval_interval": 2}
        values = settings(data, tmp_path / f"out-{blocking}", **LONG, **often, training__device="cuda", training__deterministic=True)
        (tmp_path / f"{blocking}.json").write_text(json.dumps(values))
        subprocess.run(
            [sys.executable, "-m", "stages.lib.cli", "pretrain", "apply", str(tmp_path / f"{blocking}.json"),
             "--out", str(tmp_path / f"run-{blocking}")],
            env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_LAUNCH_BLOCKING": blocking}, check=True, capture_output=True)
    losses = [[line["loss"] for line in metrics(tmp_path / f"run-{blocking}") if "loss" in line] for blocking in ("0", "1")]
    assert losses[0] == losses[1] and len(losses[0]) == 20
    assert tree(tmp_path / "out-0") == tree(tmp_path / "out-1")


@pytest.mark.parametrize(("grace_s", "told"), [(0.05, 1), (60.0, 0), (None, 0)])
def test_a_grace_in_which_a_stop_cannot_save_is_told_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grace_s: float | None, told: int,
) -> None:
    """A checkpoint of a large model takes longer than the ten seconds that a task has unless it says more."""
    write = checkpoint.Writer._write
    monkeypatch.setattr(checkpoint.Writer, "_write", lambda *given: (time.sleep(0.05), write(*given))[1])
    values = settings(data, tmp_path / "out", training__checkpoint_interval=2)
    pretrain(values, tmp_path / "run", grace_s=grace_s)
    said = [line["warning"] for line in metrics(tmp_path / "run") if "grace: 1s" in line.get("warning", "")]
    assert len(said) == told and all("a stop leaves 0.05 s before it kills" in text for text in said)
