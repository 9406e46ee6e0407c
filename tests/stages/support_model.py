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


def drawn_rows(folder: Path, vocabulary: int, row: int, rows: int) -> Path:
    """tok and packed under `folder` as by `corpus`, with drawn ids and a tokenizer of words for any vocabulary."""
    import numpy as np

    from stages.lib.files import digest_path
    from stages.lib.rows import RowShards

    (folder / "tok").mkdir()
    words = {"<|endoftext|>": 0, **{f"w{number}": number for number in range(1, vocabulary)}}
    end = {"id": 0, "content": "<|endoftext|>", "special": True}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    unused = dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor", "decoder", "truncation", "padding"))
    (folder / "tok/tokenizer.json").write_text(json.dumps({
        "version": "1.0", "added_tokens": [{**end, **flags}], **unused,
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "<|endoftext|>"}}))
    sides = {}
    for side, count in (("train", rows), ("val", 16)):
        shards = RowShards(folder / "packed" / side, row, "uint16", 1024)
        shards.write(np.random.Generator(np.random.Philox(key=count)).integers(0, vocabulary, (count, row), dtype=np.uint16))
        shards.close()
        files = [{"name": f"{side}/{name}", "digest": digest_path(folder / "packed" / side / name)} for name in shards.names]
        sides[side] = {"rows": count, "tokens": count * row, "bytes_covered": count * row * 3, "pad_tokens": 0, "shards": files}
    (folder / "packed/manifest.json").write_text(json.dumps({
        "version": 1, "seq_len": row, "vocab_size": vocabulary, "eos_id": 0, "pad_id": None, "dtype": "uint16",
        "tokenizer": digest_path(folder / "tok/tokenizer.json"), "lineage": "drawn", **sides}))
    return folder


def altered(data: Path, folder: Path, **changes: Any) -> Path:
    """`data` under `folder` with other values in its manifest, `train__rows=7` and the like; shards and tokenizer are links."""
    manifest = json.loads((data / "packed/manifest.json").read_text())
    for name, value in changes.items():
        side, _, key = name.rpartition("__")
        (manifest[side] if side else manifest)[key] = value
    (folder / "packed").mkdir(parents=True)
    (folder / "packed/manifest.json").write_text(json.dumps(manifest))
    for place in ("packed/train", "packed/val", "tok"):
        (folder / place).symlink_to(data / place)
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


def in_float64(peer: Any, monkeypatch: Any) -> Any:
    """A model of transformers that computes in float64 all through.

    Its norms are made in fp32 whatever the weights are, and its `eager` attention so too: here the cast does nothing, the formulas stay,
    and attention is torch's own.
    """
    import torch

    to = torch.Tensor.to

    def wide(tensor: Any, *to_what: Any, **more: Any) -> Any:
        return tensor if tensor.dtype == torch.float64 and to_what == (torch.float32,) else to(tensor, *to_what, **more)

    monkeypatch.setattr(torch.Tensor, "to", wide)
    peer.set_attn_implementation("sdpa")
    return peer.double()


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
