"""What a pretraining run will need and whether it can be made; judges numbers and files, imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from stages.lib.device import thread_count
from stages.lib.files import digest_path
from stages.lib.loader import Packed
from stages.lib.settings import DataConfig, TrainingConfig
from stages.lib.shape import Shape
from stages.lib.stage import Check

_FLOPS_PER_CPU_THREAD, _FLOPS_OF_A_GPU = 30e9, 50e12
_SMALL_BATCH_TOKENS, _LARGE_MODEL = 65_536, 100_000_000
_LONG_S = 14 * 86_400


def memory_bytes(shape: Shape, training: TrainingConfig, seq_len: int) -> Mapping[str, int]:
    """Bytes by part in fp32: weights 4P, gradients 4P, AdamW 8P, what a micro-batch keeps for the way back, logits.

    A layer keeps about 12 vectors of the model's width and 4 of the MLP's a token; logits are there three times
    (themselves, their softmax, their gradient).
    """
    count, tokens = shape.parameters(), training.batch_size * (seq_len - 1)
    kept = shape.num_hidden_layers * (12 * shape.hidden_size + 4 * shape.intermediate_size)
    return {
        "weights": 4 * count, "gradients": 4 * count, "AdamW": 8 * count,
        "activations": 4 * tokens * kept, "logits": 3 * 4 * tokens * shape.vocab_size,
    }


def seconds(shape: Shape, training: TrainingConfig, seq_len: int, device: str) -> float:
    """A guess of the training time: 6 operations a parameter and token at a rate usual for the device."""
    rate = _FLOPS_OF_A_GPU if device == "cuda" else _FLOPS_PER_CPU_THREAD * thread_count(training.threads)
    tokens = training.max_steps * training.rows_per_step * seq_len
    return 6.0 * shape.parameters() * tokens / rate


def number_checks(shape: Shape, training: TrainingConfig, seq_len: int, seconds_guess: float) -> list[Check]:
    """What can be judged from the configuration alone."""
    checks = []
    if seq_len > shape.max_position_embeddings:
        checks.append(Check("positions", "error", f"data.seq_len {seq_len} is more than the model's context, "
                            f"max_position_embeddings {shape.max_position_embeddings}"))
    if training.warmup_steps >= training.max_steps:
        checks.append(Check("warm-up", "error", f"warmup_steps {training.warmup_steps} does not end before "
                            f"max_steps {training.max_steps}"))
    elif training.warmup_steps > training.max_steps / 10:
        share = training.warmup_steps / training.max_steps
        checks.append(Check("warm-up", "warning", f"warm-up takes {share:.0%} of the steps; 10 % is usual at most"))
    if training.checkpoint_interval % training.eval_interval:
        checks.append(Check("best", "warning", f"checkpoint_interval {training.checkpoint_interval} is not a multiple "
                            f"of eval_interval {training.eval_interval}: the best one kept is the best of those judged"))
    batch_tokens = training.rows_per_step * seq_len
    if shape.parameters() >= _LARGE_MODEL and batch_tokens < _SMALL_BATCH_TOKENS:
        checks.append(Check("batch", "warning", f"{batch_tokens:,} tokens a step is small for "
                            f"{shape.parameters():,} parameters; {_SMALL_BATCH_TOKENS:,} is usual at least"))
    if training.grad_clip is None:
        checks.append(Check("clip", "warning", "grad_clip is null: no gradient is scaled down"))
    if seconds_guess > _LONG_S:
        checks.append(Check("time", "warning", f"about {seconds_guess / 86_400:.0f} days at this device's usual rate"))
    return checks or [Check("numbers", "ok", "positions, warm-up and intervals fit")]


def data_checks(shape: Shape, data: DataConfig, training: TrainingConfig, train: Packed, val: Packed) -> list[Check]:
    """What can be judged once the rows are packed."""
    wrong = []
    reachable = training.reachable_steps(train.rows)
    if training.max_steps > reachable:
        need = -(-training.max_steps // max(1, train.rows // training.rows_per_step))
        wrong.append(Check("steps", "error", f"max_steps {training.max_steps:,} cannot be reached: {train.rows:,} rows, "
                           f"{training.rows_per_step} a step, epochs {training.epochs} give {reachable:,}; "
                           + (f"say epochs: {need}, or lower max_steps" if reachable else "lower batch_size")))
    for side, packed in (("train", train), ("val", val)):
        if packed.seq_len != data.seq_len:
            wrong.append(Check("rows", "error", f"data.seq_len is {data.seq_len}, {side} rows have {packed.seq_len}"))
        if packed.vocab_size != shape.vocab_size:
            wrong.append(Check("vocabulary", "error", f"model.vocab_size is {shape.vocab_size}, "
                               f"{side} rows were packed with {packed.vocab_size}"))
    if (train.lineage, train.tokenizer) != (val.lineage, val.tokenizer):
        wrong.append(Check("lineage", "error", f"{data.train} and {data.val} do not come from one split and tokenizer, "
                           "so the validation would say nothing"))
    elif {digest for _, digest in train.shards} & {digest for _, digest in val.shards}:
        wrong.append(Check("lineage", "error", f"{data.train} and {data.val} hold the same shard"))
    return wrong or [Check("data", "ok", f"{train.rows:,} rows for training, {val.rows:,} held out, same split; "
                           f"{training.max_steps:,} steps of {reachable:,} reachable")]


def tokenizer_check(folder: str, vocab_size: int, packed: Packed | None) -> Check:
    """The tokenizer has as many entries as the model, and is the one the rows were packed with."""
    file = Path(folder) / "tokenizer.json"
    if not file.is_file():
        return Check("tokenizer", "when-ready", f"{file} is not there yet")
    try:
        content = json.loads(file.read_bytes())
        ids = {*content["model"]["vocab"].values(), *(token["id"] for token in content["added_tokens"])}
    except (ValueError, KeyError, TypeError, AttributeError):
        return Check("tokenizer", "error", f"{file} is not a tokenizer file")
    if len(ids) != vocab_size or max(ids) >= vocab_size:
        return Check("tokenizer", "error", f"{file} has {len(ids):,} entries up to id {max(ids):,}; "
                     f"model.vocab_size is {vocab_size:,}")
    if packed is not None and digest_path(file) != packed.tokenizer:
        return Check("tokenizer", "error", f"{file} is not the tokenizer that the rows were packed with")
    return Check("tokenizer", "ok", f"{file}: {len(ids):,} entries, as the model")
