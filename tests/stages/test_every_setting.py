"""U-11: no key of a pretraining configuration is read and dropped: another value gives another run."""

from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from support_data import apply_of, plan_of, text_table, tree
from support_model import corpus, metrics, pretrain, settings

pytestmark = [pytest.mark.torch, pytest.mark.slow]
torch = pytest.importorskip("torch")

from stages.lib.problems import BadConfig  # noqa: E402
from stages.lib.settings import PretrainConfig  # noqa: E402
from stages.lib.stage import StageError  # noqa: E402
from stages.lib.trainer import Gradients, Trainer  # noqa: E402

LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8}
WSD = {"training__schedule": "wsd", "training__decay_ratio": 0.5}
SPIKED_INTERVAL = 4
SPIKES = {"watch": {"spikes": {"factor": 1.02, "smoothing": 0.5}}, "training__checkpoint_interval": SPIKED_INTERVAL, "optimizer__lr": 0.3}
ZCLIP = {"watch": {"zclip": {"warmup": 2, "threshold": 0.1}}, "training__grad_clip": None}
DEAD = {"watch": {"dead": {"interval": 2, "looks": 2, "share": 0.5}}}
ALERT = {"monitoring": {"alerts": [{"condition": "loss > 1", "action": "warn", "message": "high"}]}}

# By dotted key: another value than that of the run it is compared with, and what else that run is given, so that the key matters.
OTHER: dict[str, tuple[Any, dict[str, Any]]] = {
    "model.hidden_size": (64, {}), "model.num_hidden_layers": (3, {}), "model.num_attention_heads": (2, {}),
    "model.num_key_value_heads": (4, {}), "model.intermediate_size": (64, {}), "model.vocab_size": (291, {}),
    "model.max_position_embeddings": (15, {}), "model.rms_norm_eps": (1e-2, {}), "model.rope_theta": (100.0, {}),
    "model.tie_word_embeddings": (False, {}), "model.qk_norm": (True, {}),
    "model.rope_scaling.rope_type": ("linear", {"model__rope_scaling": LLAMA3}),
    "model.rope_scaling.factor": (8.0, {"model__rope_scaling": LLAMA3}),
    "model.rope_scaling.low_freq_factor": (3.0, {"model__rope_scaling": LLAMA3}),
    "model.rope_scaling.high_freq_factor": (9.0, {"model__rope_scaling": LLAMA3}),
    "model.rope_scaling.original_max_position_embeddings": (16, {"model__rope_scaling": LLAMA3}),
    "data.train": ("packed2/train", {}), "data.val": ("packed2/val", {}), "data.tokenizer": ("tok2", {}), "data.seq_len": (15, {}),
    "data.curriculum.train": ("packed2/train", {"data__curriculum": [{"train": "packed/train", "until_step": 3}]}),
    "data.curriculum.until_step": (4, {"data__curriculum": [{"train": "packed2/train", "until_step": 3}]}),
    "optimizer.name": ("muon", {}), "optimizer.lr": (0.02, {}), "optimizer.betas": ([0.5, 0.9], {}), "optimizer.eps": (0.1, {}),
    "optimizer.weight_decay": (0.5, {}), "optimizer.momentum": (0.5, {"optimizer__name": "muon"}),
    "training.max_steps": (6, {}), "training.batch_size": (2, {}), "training.accumulation": (1, {}), "training.epochs": (1, {}),
    "training.warmup_steps": (4, {}), "training.schedule": ("linear", {}), "training.decay_ratio": (0.2, WSD),
    "training.decay_shape": ("linear", WSD), "training.min_lr_ratio": (0.5, {}), "training.grad_clip": (0.1, {}),
    "training.document_mask": (True, {}), "training.z_loss": (0.1, {}), "training.ema": (0.9, {}),
    "training.eval_interval": (3, {}), "training.eval_rows": (3, {}), "training.full_eval_interval": (1, {"training__eval_rows": 3}),
    "training.checkpoint_interval": (3, {}), "training.log_interval": (2, {}),
    "training.keep": (1, {"training__checkpoint_interval": 2}), "training.seed": (4, {}),
    "training.dtype": ("bf16", {}), "training.device": ("cuda", {}), "training.threads": (2, {}), "training.row_log": (True, {}),
    "training.activation_checkpointing": (True, {}), "training.deterministic": (True, {}), "training.compile": (True, {}),
    "watch.patience": (1, {"optimizer__lr": 1.0, "training__eval_interval": 1}), "watch.noise_scale": (True, {}),
    "watch.zclip.alpha": (0.1, ZCLIP), "watch.zclip.threshold": (2.0, ZCLIP), "watch.zclip.warmup": (5, ZCLIP),
    "watch.spikes.factor": (9.0, SPIKES), "watch.spikes.max_rollbacks": (1, SPIKES), "watch.spikes.smoothing": (0.999, SPIKES),
    "watch.spikes.max_broken": (1, SPIKES),
    "watch.dead.interval": (4, DEAD), "watch.dead.looks": (3, DEAD), "watch.dead.share": (1e-9, DEAD),
    "monitoring.alerts.condition": ("loss > 99", ALERT), "monitoring.alerts.action": ("stop", ALERT),
    "monitoring.alerts.message": ("low", ALERT),
    "rivals.val_text": ("split/val", {"rivals": {"val_text": "text"}}), "init_from": ("first", {}), "out": ("other", {}),
}
BY_PLAN = {"data.seq_len", "training.epochs", "training.activation_checkpointing"}  # what is refused, and what changes memory alone
SAID = {"steps", "compiled", "device", "skipped_steps", "rollbacks", "xz_one_stream_bits_per_byte"}
SHOWN = {"step", "loss", "lr", "grad_norm", "val", "val_full", "noise_scale", "warning", "rolled_back_to"}
MODEL_NAMES = {
    "hidden_size": "d_model", "num_hidden_layers": "layers", "num_attention_heads": "heads", "num_key_value_heads": "kv_heads",
    "intermediate_size": "ffn", "max_position_embeddings": "context", "tie_word_embeddings": "tied",
}


def leaves(model: type[BaseModel], before: str = "") -> list[str]:
    """Every key that holds a value, by dotted name."""
    found = []
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        found += [leaf for kind in inner for leaf in leaves(kind, f"{before}{name}.")] or [before + name]
    return found


def test_the_table_of_keys_is_complete() -> None:
    assert sorted(OTHER) == sorted(leaves(PretrainConfig))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, rows of other texts and tokens of another tokenizer beside it, and a model to start from."""
    folder = corpus(tmp_path_factory.mktemp("corpus"))
    for number, name in enumerate(("text", "text2")):
        text_table(folder / name, [f"value_{n} = {n + number / 10}\n" * 9 for n in range(60)])
    apply_of("pack", folder / "run", train=str(folder / "text"), val=str(folder / "text2"), tokenizer=str(folder / "tok"),
             out=str(folder / "packed2"), seq_len=16)
    apply_of("tokenize", folder / "run", input=str(folder / "text"), out=str(folder / "tok2"), vocab_size=280)
    pretrain(settings(folder, folder / "first", training__max_steps=1), folder / "run/first")
    return folder


def changed(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """The configuration with another value at a dotted key; one of a list stands in its first member."""
    found = copy.deepcopy(values)
    *parts, last = key.split(".")
    place = found
    for part in parts:
        inner = place.setdefault(part, {})
        place = inner[0] if isinstance(inner, list) else inner
    place[MODEL_NAMES.get(last, last) if parts == ["model"] else last] = value
    return found


def outcome(values: dict[str, Any], run: Path) -> dict[str, Any]:
    """What a user sees of a run: what it wrote and where, every figure but those of time, how it computed, or why it stopped."""
    torch.use_deterministic_algorithms(False)
    out = Path(values["out"])
    seen: dict[str, Any] = {}
    try:
        report = pretrain(values, run)
    except (StageError, BadConfig) as stop:
        seen["stopped"] = str(stop)
    else:
        seen["said"] = {name: value for name, value in report.metrics.items() if name in SAID}
    seen["how"] = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    lines = metrics(run) if (run / "metrics.jsonl").exists() else []
    seen["figures"] = [{name: value for name, value in line.items() if name in SHOWN} for line in lines]
    seen["work"] = sorted(tree(run / "work"))
    seen["out"] = {str(out / name): value for name, value in tree(out).items() if name != "training.json"}
    shutil.rmtree(out, ignore_errors=True)
    return seen


@pytest.fixture(autouse=True)
def fifth_step_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """In runs that watch for spikes, so that their settings matter."""
    made = Trainer.gradients

    def gradients(self: Trainer, position: int, look: bool = False) -> Gradients:
        found = made(self, position, look)
        return replace(found, loss=math.nan) if position == 5 and self.training.checkpoint_interval == SPIKED_INTERVAL else found

    monkeypatch.setattr(Trainer, "gradients", gradients)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The outcome of a run, made once for each configuration and shown to be the same every time."""
    known: dict[str, dict[str, Any]] = {}

    def of(values: dict[str, Any]) -> dict[str, Any]:
        name = json.dumps(values)
        if name not in known:
            known[name] = outcome(values, tmp_path_factory.mktemp("run"))
            assert outcome(values, tmp_path_factory.mktemp("run")) == known[name]
        return known[name]

    return of


@pytest.mark.parametrize("key", OTHER)
def test_another_value_gives_another_run(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compared: Callable[[dict[str, Any]], dict[str, Any]], key: str,
) -> None:
    monkeypatch.chdir(project)
    value, given = OTHER[key]
    plain = settings(Path(), Path("out"), **{"training__max_steps": 8, "training__epochs": 9, **given})
    other = changed(plain, key, value)
    if key in BY_PLAN:
        assert plan_of("pretrain", **plain) != plan_of("pretrain", **other)
    else:
        assert compared(plain) != outcome(other, tmp_path)
