"""Checkpoints that are whole or not there, proven by digest when read; knows tensors and a state, no model and no loop."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import safetensors.torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor

from stages.lib.config import Config
from stages.lib.files import canonical_json, digest_path, output_folder, remove
from stages.lib.stage import StageError
from stages.lib.strict_json import read_object

_NAME = re.compile(r"step-([0-9]{8})")
_INDEX, _STATE = "index.json", "state.json"


class Evaluation(Config):
    """One validation: after which step, nats a token, bits a byte of text, minutes trained until then."""

    step: int
    loss: float
    bits_per_byte: float
    minutes: float


class TrainState(Config):
    """The one schema of state.json: all that a resumed run must know besides tensors.

    `made_with` are the settings that decide the numbers, by dotted name; a run with others may not go on from here.
    """

    version: Literal[1] = 1
    step: int = Field(ge=0)
    epoch: int = Field(ge=0)
    rows_into_epoch: int = Field(ge=0)
    trained_s: float = Field(ge=0)
    history: tuple[Evaluation, ...]
    made_with: dict[str, str]

    @property
    def best(self) -> Evaluation | None:
        """The validation with the lowest loss so far."""
        return min(self.history, key=lambda e: e.loss, default=None)


@dataclass(frozen=True)
class Checkpoint:
    """What one folder held: groups of tensors by file stem, and the state."""

    name: str
    tensors: Mapping[str, dict[str, Tensor]]
    state: TrainState


def save(folder: Path, state: TrainState, tensors: Mapping[str, dict[str, Tensor]]) -> Path:
    """Writes `folder/step-NNNNNNNN`: all files fsynced under a name that no reader takes, then renamed."""
    path = folder / f"step-{state.step:08d}"
    with output_folder(path) as partial:
        for stem, group in tensors.items():
            whole = {name: value.detach().cpu().contiguous() for name, value in group.items()}
            safetensors.torch.save_file(whole, partial / f"{stem}.safetensors")
        (partial / _STATE).write_bytes(canonical_json(state.model_dump()))
        files = {file.name: digest_path(file) for file in sorted(partial.iterdir())}
        (partial / _INDEX).write_bytes(canonical_json({"version": 1, "files": files}))
    return path


def names(folder: Path) -> list[str]:
    """Names of the checkpoints in `folder`, newest first; half-written ones have no such name."""
    if not folder.is_dir():
        return []
    return sorted((entry.name for entry in folder.iterdir() if _NAME.fullmatch(entry.name)), reverse=True)


def load(path: Path) -> Checkpoint:
    """Reads one checkpoint. StageError saying what is wrong when a byte, a file or the schema is not as written."""
    index = read_object(path / _INDEX)
    if index.get("version") != 1 or not isinstance(index.get("files"), dict):
        raise StageError(f"{path / _INDEX} has no version 1 list of files")
    for name, digest in index["files"].items():
        file = path / name
        if not file.is_file():
            raise StageError(f"{file} is missing")
        if digest_path(file) != digest:
            raise StageError(f"{file} is not as it was written (its digest differs)")
    try:
        state = TrainState.model_validate(read_object(path / _STATE))
        tensors = {
            Path(name).stem: safetensors.torch.load_file(path / name)
            for name in index["files"] if name.endswith(".safetensors")
        }
    except (ValidationError, SafetensorError) as fault:
        raise StageError(f"{path}: {fault}") from None
    return Checkpoint(path.name, tensors, state)


def newest(folder: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest good checkpoint, or None; each torn or corrupt one on the way is named to `say` and left alone."""
    for name in names(folder):
        try:
            return load(folder / name)
        except StageError as fault:
            say(f"checkpoint {name} is skipped: {fault}")
    return None


def prune(folder: Path, keep: int, history: Sequence[Evaluation]) -> None:
    """Removes all but the newest `keep` and the one whose own validation was the lowest."""
    there = names(folder)
    judged = {f"step-{e.step:08d}": e.loss for e in history}
    best = min((name for name in there if name in judged), key=lambda name: judged[name], default=None)
    for name in there[keep:]:
        if name != best:
            remove(folder / name)
