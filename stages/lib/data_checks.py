"""Whether rows, tokenizer and weights are those that a pretraining configuration means; reads small files only, imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.lib.files import digest_path
from stages.lib.folders import END_OF_TEXT, model_checks, shape_in
from stages.lib.loader import Packed, manifest_of, read_packed
from stages.lib.settings import PretrainConfig
from stages.lib.stage import Check, StageError


@dataclass(frozen=True)
class Sides:
    """What the manifests say of the rows of training, by their path, and of those held out."""

    training: Mapping[str, Packed]
    val: Packed

    @property
    def train(self) -> Packed:
        """Those read last, or all the time."""
        return list(self.training.values())[-1]


def packed_sides(config: PretrainConfig) -> tuple[list[Check], Sides | None]:
    """What the manifests beside the rows of training and `data.val` say, or why that cannot be known."""
    names = (*config.data.training_sides, config.data.val)
    sides = [Path(name) for name in names]
    waiting = [manifest_of(side) for side in sides if not manifest_of(side).is_file()]
    if waiting:
        return [Check("data", "when-ready", f"{waiting[0]} is not there yet")], None
    try:
        *training, val = map(read_packed, sides)
        return [], Sides(dict(zip(names, training, strict=False)), val)
    except StageError as fault:
        return [Check("data", "error", str(fault))], None


def row_checks(config: PretrainConfig, sides: Sides) -> list[Check]:
    """What can be judged once the rows are packed."""
    data, val = config.data, sides.val
    wrong = [*_step_checks(config, sides), *_side_checks(config, "val", val)]
    held_out = {digest for _, digest in val.shards}
    for name, packed in sides.training.items():
        wrong += _side_checks(config, "train", packed)
        if (packed.lineage, packed.tokenizer) != (val.lineage, val.tokenizer):
            wrong.append(Check("lineage", "error", f"{name} and {data.val} do not come from one split and tokenizer, "
                               "so the validation would say nothing"))
        elif {digest for _, digest in packed.shards} & held_out:
            wrong.append(Check("lineage", "error", f"{name} and {data.val} hold the same shard"))
    rows = sum(packed.rows for packed in sides.training.values())
    reachable = reachable_steps(config, sides)
    return wrong or [Check("data", "ok", f"{rows:,} rows for training, {val.rows:,} held out, same split; "
                           f"{config.training.max_steps:,} steps of {reachable:,} reachable")]


def reachable_steps(config: PretrainConfig, sides: Sides) -> int:
    """Steps that the epochs give, from the first phase of the curriculum to the rows read last."""
    curriculum = config.data.curriculum
    return (curriculum[-1].until_step if curriculum else 0) + config.training.reachable_steps(sides.train.rows)


def tokenizer_check(folder: str, vocab_size: int, packed: Packed | None) -> Check:
    """The tokenizer has as many entries as the model and an end of text, and is the one the rows were packed with."""
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
    if not any(token.get("content") == END_OF_TEXT for token in content["added_tokens"]):
        return Check("tokenizer", "error", f"{file} has no {END_OF_TEXT}, with which the model that is written begins and ends a text; "
                     "tokenize adds it as a special token")
    if packed is not None and digest_path(file) != packed.tokenizer:
        return Check("tokenizer", "error", f"{file} is not the tokenizer that the rows were packed with")
    return Check("tokenizer", "ok", f"{file}: {len(ids):,} entries, as the model")


def path_checks(config: PretrainConfig) -> list[Check]:
    """Text for the rivals and weights to begin with: not there yet, or weights of another shape."""
    checks = []
    if config.rivals is not None and not Path(config.rivals.val_text).exists():
        checks.append(Check("rivals", "when-ready", f"{config.rivals.val_text} is not there yet"))
    if config.init_from is None:
        return checks
    if not Path(config.init_from).exists():
        return [*checks, Check("init_from", "when-ready", f"{config.init_from} is not there yet")]
    checks += [Check("init_from", check.level, check.text) for check in model_checks(config.init_from) if check.level != "ok"]
    shape = shape_in(Path(config.init_from))
    if shape is not None and shape.tensors() != config.model.tensors():
        checks.append(Check("init_from", "error", f"{config.init_from} holds another model: {shape.text()}"))
    return checks


def _step_checks(config: PretrainConfig, sides: Sides) -> list[Check]:
    training, checks, begin = config.training, [], 0
    ends = [(phase.train, phase.until_step) for phase in config.data.curriculum]
    used: dict[str, int] = {}
    for name, end in (*ends, (config.data.train, training.max_steps)):
        used[name] = used.get(name, 0) + end - begin
        begin = end
    for name, steps in used.items():
        rows = sides.training[name].rows
        reachable = training.reachable_steps(rows)
        if steps <= reachable:
            continue
        need = -(-steps // max(1, rows // training.rows_per_step))
        what = f"the {steps:,} steps on {name}" if ends else f"max_steps {training.max_steps:,}"
        checks.append(Check("steps", "error", f"{what} cannot be reached: {rows:,} rows, "
                            f"{training.rows_per_step} a step, epochs {training.epochs} give {reachable:,}; "
                            + (f"say epochs: {need}, or lower max_steps" if reachable else "lower batch_size")))
    return checks


def _side_checks(config: PretrainConfig, side: str, packed: Packed) -> list[Check]:
    data, vocabulary, wrong = config.data, config.model.vocab_size, []
    if packed.seq_len != data.seq_len:
        wrong.append(Check("rows", "error", f"data.seq_len is {data.seq_len}, {side} rows have {packed.seq_len}"))
    highest = max(packed.eos_id, packed.pad_id or 0, packed.max_id or 0)
    if packed.vocab_size != vocabulary:
        wrong.append(Check("vocabulary", "error", f"model.vocab_size is {vocabulary}, "
                           f"{side} rows were packed with {packed.vocab_size}"))
    elif highest >= vocabulary:
        wrong.append(Check("vocabulary", "error", f"{side} rows hold id {highest}, beyond the model's {vocabulary}"))
    missing = [name for name, _ in packed.shards if not (packed.folder / name).is_file()]
    if missing:
        wrong.append(Check("paths", "error", f"{len(missing)} of {len(packed.shards)} {side} shards are missing, the first is "
                           f"{packed.folder / missing[0]}; pack again"))
    return wrong
