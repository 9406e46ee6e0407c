"""Pretrain as a user sees it: what plan refuses, what a run writes, when it stops."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support_data import apply_of, config_of, text_table, tree
from support_model import SHAPE, altered, corpus, drawn_rows, metrics, pretrain, settings

from stages.lib.stage import Plan, StageError
from stages.pretrain import plan


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus(tmp_path_factory.mktemp("corpus"))


def planned(values: dict[str, Any]) -> Plan:
    return plan(config_of("pretrain", values))


def errors(found: Plan) -> str:
    return "\n".join(check.text for check in found.checks if check.level == "error")


def test_a_good_plan_holds_and_counts(data: Path, tmp_path: Path) -> None:
    found = planned(settings(data, tmp_path / "out"))
    assert found.ok and {c.level for c in found.checks} <= {"ok", "warning"}
    assert found.estimates["parameters"] == 290 * 32 + 2 * (32 * 32 * 3 + 3 * 32 * 48 + 64) + 32
    assert found.estimates["steps"] == 10 and found.estimates["tokens"] == 10 * 8 * 16
    assert {"memory_bytes", "disk_bytes", "seconds"} <= set(found.estimates)
    assert found.writes == (str(tmp_path / "out"),)


def test_steps_beyond_the_data_are_refused_and_the_way_out_works(data: Path, tmp_path: Path) -> None:
    """ALB-060: 43 of 5,000 steps were made, for the data had ended."""
    said = errors(planned(settings(data, tmp_path / "out", training__max_steps=100_000)))
    assert "cannot be reached" in said
    epochs = int(said.split("say epochs: ")[1].split(",")[0])
    for count, good in ((epochs, True), (epochs - 1, False)):
        values = settings(data, tmp_path / "out", training__max_steps=100_000, training__epochs=count)
        assert ("cannot be reached" not in errors(planned(values))) is good


@pytest.mark.parametrize(("changes", "said"), [
    ({"training__warmup_steps": 10}, "warmup_steps 10 does not end before max_steps 10"),
    ({"data__seq_len": 32}, "data.seq_len 32 is more than the model's context"),
    ({"model": {**SHAPE, "vocab_size": 291}}, "model.vocab_size is 291"),
])
def test_what_does_not_fit_together_is_refused(data: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    assert said in errors(planned(settings(data, tmp_path / "out", **changes)))


def test_a_tokenizer_with_which_no_model_can_be_written_is_refused_before_training(data: Path, tmp_path: Path) -> None:
    """It was found out after the last step."""
    (tmp_path / "tok").mkdir()
    text = (data / "tok/tokenizer.json").read_text().replace("<|endoftext|>", "<|end|>")
    (tmp_path / "tok/tokenizer.json").write_text(text)
    values = settings(data, tmp_path / "out", data__tokenizer=str(tmp_path / "tok"))
    assert "has no <|endoftext|>" in errors(planned(values))
    pytest.importorskip("torch")
    with pytest.raises(StageError, match=r"has no <\|endoftext\|>"):
        pretrain(values, tmp_path / "run")
    assert not (tmp_path / "run/metrics.jsonl").exists()


@pytest.mark.parametrize(("changes", "said"), [
    ({"seq_len": 15}, "train rows have 15"), ({"vocab_size": 300}, "packed with 300"),
    ({"tokenizer": "blake3:00"}, "is not the tokenizer that the rows were packed with"), ({"val": {}}, "does not describe val"),
])
def test_rows_of_another_kind_are_refused(data: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    other = altered(data, tmp_path / "other", **changes)
    assert said in errors(planned(settings(other, tmp_path / "out")))


def test_shards_that_cannot_be_mapped_are_refused_and_the_way_out_is_named(data: Path, tmp_path: Path) -> None:
    other = altered(data, tmp_path / "other", train__shards=[{"name": "train/shard-00000.parquet", "digest": "blake3:00"}])
    said = errors(planned(settings(other, tmp_path / "out")))
    assert "names train/shard-00000.parquet" in said and "pack again" in said


def test_validation_rows_of_another_split_or_of_training_are_refused(data: Path, tmp_path: Path) -> None:
    """U-6: the validation came from another data set."""
    other = altered(data, tmp_path / "other", lineage="blake3:11")
    values = settings(data, tmp_path / "out", data__val=str(other / "packed/val"))
    assert "do not come from one split" in errors(planned(values))
    values = settings(data, tmp_path / "out", data__val=str(data / "packed/train"))
    assert "hold the same shard" in errors(planned(values))


def test_what_is_not_there_yet_is_checked_when_ready(tmp_path: Path) -> None:
    found = planned(settings(tmp_path / "nothing", tmp_path / "out"))
    assert found.ok and {"data", "tokenizer"} <= {c.name for c in found.checks if c.level == "when-ready"}


def test_risky_numbers_are_warned_of(data: Path, tmp_path: Path) -> None:
    """ALB-066, ALB-071, ALB-080: months of training, no clipping, a batch far too small for the model."""
    large = {**SHAPE, "layers": 24, "d_model": 1024, "ffn": 4096}
    values = settings(data, tmp_path / "out", model=large, training__grad_clip=None, training__max_steps=10**9)
    assert {"batch", "clip", "time"} <= {c.name for c in planned(values).checks if c.level == "warning"}


@pytest.mark.torch
def test_a_run_makes_the_steps_asked_for_and_says_each_rate(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ALB-034: max_steps was ignored. ALB-079: the rate was not the one of the schedule."""
    import torch

    rates: list[float] = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step",
                        lambda self, *a, **k: (rates.append(self.param_groups[0]["lr"]), step(self, *a, **k))[1])
    report = pretrain(settings(data, tmp_path / "out", training__max_steps=7), tmp_path / "run")
    assert report.metrics["steps"] == 7 and len(rates) == 7
    wanted = [0.005, 0.01, *(0.005 * (1 + math.cos(math.pi * n / 5)) for n in range(1, 6))]
    assert rates == pytest.approx(wanted)
    assert [line["lr"] for line in metrics(tmp_path / "run") if "lr" in line] == pytest.approx(wanted)


@pytest.mark.torch
@pytest.mark.parametrize("ema", [None, 0.9], ids=["weights and moments", "averages too"])
def test_the_disk_at_its_fullest_is_that_of_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ema: float | None) -> None:
    """A rate that is too high makes an early checkpoint the best, so that it is kept beside the newest and the one being written."""
    pytest.importorskip("torch")
    from stages.lib import checkpoint

    model = {**SHAPE, "d_model": 64, "ffn": 160, "vocab_size": 2048, "context": 33}
    values = settings(drawn_rows(tmp_path, 2048, 33, 64), tmp_path / "out", model=model, data__seq_len=33, optimizer__lr=0.05,
                      training__max_steps=24, training__epochs=100, training__eval_interval=4, training__checkpoint_interval=4,
                      training__ema=ema)
    fullest, prune = [0], checkpoint.prune

    def looked(folder: Path, *more: Any) -> None:
        fullest.append(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
        prune(folder, *more)

    monkeypatch.setattr(checkpoint, "prune", looked)
    pretrain(values, tmp_path / "run")
    written = max(fullest) + (tmp_path / "out/model.safetensors").stat().st_size
    assert planned(values).estimates["disk_bytes"] == pytest.approx(written, rel=0.03)


@pytest.mark.torch
def test_progress_can_be_read_while_it_trains(data: Path, tmp_path: Path) -> None:
    """ALB-035, ALB-068: no state while training; validation at every step."""
    pretrain(settings(data, tmp_path / "out"), tmp_path / "run")
    lines = metrics(tmp_path / "run")
    assert [line["step"] for line in lines if "val" in line] == [0, 5, 10]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 11))
    held_out = json.loads((data / "packed/manifest.json").read_text())["val"]
    a_byte = held_out["tokens"] / held_out["bytes_covered"] / math.log(2)
    assert all(line["bits_per_byte"] == pytest.approx(line["val"] * a_byte) for line in lines if "val" in line)
    assert {"loss", "lr", "grad_norm", "best_val", "tokens_per_s", "eta_s", "at", "of"} <= lines[-1].keys()


@pytest.mark.torch
def test_equal_runs_write_equal_bytes_and_learn(data: Path, tmp_path: Path) -> None:
    """U-12: the same configuration gave two different models."""
    for name in ("a", "b"):
        report = pretrain(settings(data, tmp_path / name), tmp_path / f"run-{name}")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    assert report.metrics["val_bits_per_byte"] < report.metrics["before_bits_per_byte"] - 0.2
    assert report.metrics["before_bits_per_byte"] > 0
    assert "before training" in report.headline[0]
    assert not any(word in str(tree(tmp_path / "a")["training.json"]) for word in ("minutes", str(tmp_path)))


@pytest.mark.torch
def test_rivals_without_a_text_are_refused_before_training(data: Path, tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text/empty.py").write_text("")
    with pytest.raises(StageError, match=r"rivals.val_text: .*text holds no text to compare with"):
        pretrain(settings(data, tmp_path / "out", rivals={"val_text": str(tmp_path / "text")}), tmp_path / "run")
    assert not (tmp_path / "run/metrics.jsonl").exists() and not (tmp_path / "out").exists()


@pytest.mark.torch
@pytest.mark.parametrize("average", [None, 0.9])
def test_the_model_written_is_the_one_trained(data: Path, tmp_path: Path, average: float | None) -> None:
    """ALB-038, ALB-086, ALB-097: start weights were saved, as vectors, without the tied head. With averages it is those."""
    import safetensors.torch
    import torch

    from stages.lib import hf
    from stages.lib.device import Compute
    from stages.lib.loader import batches, read_packed, read_rows
    from stages.lib.loss import mean_loss
    from stages.lib.model import Llama

    report = pretrain(settings(data, tmp_path / "out", training__ema=average), tmp_path / "run")
    model = hf.read(tmp_path / "out", torch.device("cpu"))
    start = dict(Llama(model.shape, seed=3).named_parameters())
    saved = safetensors.torch.load_file(tmp_path / "out/model.safetensors")
    assert {name: tuple(w.shape) for name, w in saved.items()} == dict(hf.read_shape(tmp_path / "out").tensors())
    assert [name for name, weight in saved.items() if torch.equal(weight, start[name])] == []
    packed = read_packed(data / "packed/val")
    loss = mean_loss(model, batches(read_rows(packed), 16, packed.pad_id), Compute(torch.device("cpu"), False))
    assert loss == pytest.approx(report.metrics["val_loss"], abs=1e-6)


@pytest.mark.torch
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_number_that_is_none_stops_the_run_and_saves_nothing_of_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str,
) -> None:
    """ALB-042: after an error the loss read 0.0 and garbage was saved."""
    from stages.lib import checkpoint, trainer

    real = trainer.Trainer.gradients

    def broken(self: Any, position: int, look: bool = False) -> Any:
        found = real(self, position, look)
        name = "loss" if where == "loss" else "norm"
        return replace(found, **{name: math.nan}) if position == 7 else found

    monkeypatch.setattr(trainer.Trainer, "gradients", broken)
    with pytest.raises(StageError, match=f"the {where} of step 7 is nan"):
        pretrain(settings(data, tmp_path / "out"), tmp_path / "run")
    assert checkpoint.names(tmp_path / "run/work/checkpoints") == ["step-00000005"]
    assert not (tmp_path / "out").exists()


@pytest.mark.torch
def test_a_validation_that_is_no_number_stops_the_run_before_its_weights_are_saved(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """ALB-042: what is validated may be broken where no step was, as averaged weights."""
    from stages.lib import checkpoint, trainer

    sequence = iter([5.0, 5.0, math.nan])
    monkeypatch.setattr(trainer.Trainer, "validate", lambda self, batches: next(sequence))
    with pytest.raises(StageError, match="the validation loss after step 10 is nan; nothing is saved"):
        pretrain(settings(data, tmp_path / "out"), tmp_path / "run")
    assert checkpoint.names(tmp_path / "run/work/checkpoints") == ["step-00000005"]
    assert not (tmp_path / "out").exists()


@pytest.mark.torch
def test_a_loss_of_exactly_zero_is_an_alarm(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ALB-069: a kernel called wrongly gave loss 0.0."""
    from stages.lib import trainer

    real = trainer.loss_sum
    monkeypatch.setattr(trainer, "loss_sum", lambda *a, **k: tuple(found * 0 for found in real(*a, **k)))
    with pytest.raises(StageError, match="exactly 0"):
        pretrain(settings(data, tmp_path / "out"), tmp_path / "run")


@pytest.mark.torch
def test_a_loss_that_never_changes_is_told(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ALB-073, ALB-122: as ALB-069, with a loss that is not 0."""
    from stages.lib import trainer

    real = trainer.Trainer.gradients
    monkeypatch.setattr(trainer.Trainer, "gradients", lambda self, position, look=False: replace(real(self, position, look), loss=5.5))
    pretrain(settings(data, tmp_path / "out"), tmp_path / "run")
    told = [(line["step"], line["warning"]) for line in metrics(tmp_path / "run") if "warning" in line]
    assert [(step, text.startswith("the loss of the 5 steps to 5 is 5.5")) for step, text in told] == [(5, True)]


@pytest.mark.torch
def test_without_clipping_a_run_stays_finite_or_ends(data: Path, tmp_path: Path) -> None:
    """ALB-067: with clipping off, that of the embedding went too, and weights that were no numbers were trained on."""
    pretrain(settings(data, tmp_path / "sound", training__grad_clip=None), tmp_path / "run-1")
    assert all(math.isfinite(line["loss"]) and math.isfinite(line["grad_norm"]) for line in metrics(tmp_path / "run-1") if "lr" in line)
    with pytest.raises(StageError, match=r"of step \d+ is (nan|inf)"):
        pretrain(settings(data, tmp_path / "lost", training__grad_clip=None, optimizer__lr=1e30), tmp_path / "run-2")
    assert not (tmp_path / "lost").exists()


@pytest.mark.torch
def test_a_harmed_shard_is_named_before_training(data: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(data, tmp_path / "copy")
    shard = sorted((tmp_path / "copy/packed/train").iterdir())[-1]
    raw = bytearray(shard.read_bytes())
    raw[len(raw) // 2] ^= 4
    shard.write_bytes(raw)
    with pytest.raises(StageError, match=shard.name):
        pretrain(settings(tmp_path / "copy", tmp_path / "out"), tmp_path / "run")


@pytest.mark.torch
def test_weights_given_to_start_from_bring_no_step_with_them(data: Path, tmp_path: Path) -> None:
    """ALB-117: the source's step leaked into the fresh run."""
    pretrain(settings(data, tmp_path / "first"), tmp_path / "run-1")
    values = settings(data, tmp_path / "second", init_from=str(tmp_path / "first"), training__max_steps=5)
    report = pretrain(values, tmp_path / "run-2")
    told = json.loads((tmp_path / "second/training.json").read_text())
    assert report.metrics["resumed_from"] == 0 and report.metrics["steps"] == 5
    before = json.loads((tmp_path / "first/training.json").read_text())["validation"][-1]
    assert told["validation"][0] == {**before, "step": 0}


@pytest.mark.torch
@pytest.mark.parametrize("in_a_phase", [False, True])
def test_pad_tokens_are_neither_learned_nor_validated(data: Path, tmp_path: Path, in_a_phase: bool) -> None:
    """Also those of a phase whose successor has none: they counted as text there."""
    import torch

    from stages.lib import hf
    from stages.lib.device import Compute
    from stages.lib.loader import batches, read_packed, read_rows
    from stages.lib.loss import mean_loss

    for name, text in (("text", "value = 1\n"), ("held-out", "other = 23\n")):
        text_table(tmp_path / name, [text * 7])
    apply_of("pack", tmp_path / "run", train=str(tmp_path / "text"), val=str(tmp_path / "held-out"), tokenizer=str(data / "tok"),
             out=str(tmp_path / "packed"), seq_len=16, remainder="pad")
    side = json.loads((tmp_path / "packed/manifest.json").read_text())["train"]
    assert side["pad_tokens"] > 0
    values = settings(data, tmp_path / "out", data__val=str(tmp_path / "packed/val"), training__max_steps=side["rows"] + in_a_phase,
                      training__batch_size=1, training__accumulation=1, training__warmup_steps=0)
    if in_a_phase:
        values["data"]["curriculum"] = [{"train": str(tmp_path / "packed/train"), "until_step": side["rows"]}]
    else:
        values["data"]["train"] = str(tmp_path / "packed/train")
    report = pretrain(values, tmp_path / "run")
    learned = float(report.metrics["tokens_per_s"]) * float(report.metrics["seconds_in_steps"])
    assert learned == pytest.approx((side["rows"] + in_a_phase) * 15 - side["pad_tokens"])
    model, packed = hf.read(tmp_path / "out", torch.device("cpu")), read_packed(tmp_path / "packed/val")
    with_pads, without = (mean_loss(model, batches(read_rows(packed), 16, pad), Compute(torch.device("cpu"), False))
                          for pad in (None, packed.pad_id))
    assert report.metrics["val_loss"] == pytest.approx(without, abs=1e-6) and with_pads != pytest.approx(without, abs=1e-6)


@pytest.mark.torch
def test_a_checkpoint_says_where_in_the_data_it_is_and_what_it_was_made_with(data: Path, tmp_path: Path) -> None:
    from stages.lib.files import digest_path

    pretrain(settings(data, tmp_path / "first", training__max_steps=1), tmp_path / "run-1")
    values = settings(data, tmp_path / "out", training__epochs=9, training__batch_size=16, init_from=str(tmp_path / "first"))
    pretrain(values, tmp_path / "run-2")
    a_pass = json.loads((data / "packed/manifest.json").read_text())["train"]["rows"] // 32
    places = []
    for step in (5, 10):
        state = json.loads((tmp_path / f"run-2/work/checkpoints/step-{step:08d}/state.json").read_text())
        places.append((state["epoch"], state["rows_into_epoch"]))
    assert places == [(step // a_pass, step % a_pass * 32) for step in (5, 10)] and places[1][0] > 0
    assert state["made_with"]["data.tokenizer"] == digest_path(data / "tok/tokenizer.json")
    assert state["made_with"]["init_from"] == digest_path(tmp_path / "first/model.safetensors")
    assert (state["made_with"]["optimizer.lr"], state["made_with"]["training.seed"]) == ("0.01", "3")


@pytest.mark.torch
def test_checkpoints_of_other_settings_are_not_gone_on_from(data: Path, tmp_path: Path) -> None:
    pretrain(settings(data, tmp_path / "out"), tmp_path / "run")
    with pytest.raises(StageError, match=r"optimizer.lr 0.01 -> 0.02"):
        pretrain(settings(data, tmp_path / "out", optimizer__lr=0.02), tmp_path / "run")
