"""A tiny packed corpus and tiny settings for the tests of the model stages; asserts nothing."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from support_data import apply_of, config_of, sources

from stages.lib.stage import Report, Run

SHAPE = {"d_model": 32, "layers": 2, "heads": 4, "kv_heads": 2, "ffn": 48, "vocab_size": 290, "context": 16}


def corpus(folder: Path) -> Path:
    """raw, split, tok and packed (rows of 16) under `folder`, made by the data stages."""
    src = sources(folder / "src")
    apply_of("ingest", folder / "run", source=str(src), out=str(folder / "raw"))
    apply_of("split", folder / "run", input=str(folder / "raw"), out=str(folder / "split"), val_permille=250)
    apply_of("tokenize", folder / "run", input=str(folder / "split/train"), out=str(folder / "tok"), vocab_size=290)
    apply_of("pack", folder / "run", train=str(folder / "split/train"), val=str(folder / "split/val"),
             tokenizer=str(folder / "tok"), out=str(folder / "packed"), seq_len=16, rows_per_shard=100)
    return folder


def settings(data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """A pretrain configuration of ten steps; `changes` are `training__max_steps=7` and the like."""
    values: dict[str, Any] = {
        "model": dict(SHAPE),
        "data": {"train": str(data / "packed/train"), "val": str(data / "packed/val"), "tokenizer": str(data / "tok"),
                 "seq_len": 16},
        "optimizer": {"lr": 0.01},
        "training": {"max_steps": 10, "batch_size": 4, "accumulation": 2, "warmup_steps": 2, "eval_interval": 5,
                     "checkpoint_interval": 5, "log_interval": 1, "seed": 3, "device": "cpu", "threads": 1,
                     "dtype": "fp32"},
        "out": str(out),
    }
    values = copy.deepcopy(values)
    for name, value in changes.items():
        *parts, last = name.split("__")
        place = values
        for part in parts:
            place = place[part]
        place[last] = value
    return values


def pretrain(values: dict[str, Any], attempt: Path, work: Path | None = None, grace_s: float | None = None) -> Report:
    """The stage in this process."""
    from stages import pretrain as stage

    run = Run(attempt, work or attempt / "work", grace_s=grace_s)
    try:
        return stage.apply(config_of("pretrain", values), run)
    finally:
        run.close()


def metrics(attempt: Path) -> list[dict[str, Any]]:
    """Every line of progress."""
    return [json.loads(line) for line in (attempt / "metrics.jsonl").read_text().splitlines()]
