"""Checkpoints that are whole or not there, proven by digest when read; knows tensors and a state, no model and no loop."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Literal

import torch
from pydantic import Field, JsonValue, ValidationError
from torch import Tensor

from stages.lib import tensors_file
from stages.lib.config import Config
from stages.lib.files import canonical_json, digest_bytes, digest_path, output_folder, remove, remove_leftovers
from stages.lib.plan_text import size
from stages.lib.stage import StageError
from stages.lib.strict_json import read_object

_NAME = re.compile(r"step-([0-9]{8})")
_INDEX, _STATE, _TENSORS = "index.json", "state.json", ".safetensors"


class Evaluation(Config):
    """One validation: after which step, nats a token, bits a byte of text, minutes trained until then."""

    step: int
    loss: float
    bits_per_byte: float
    minutes: float


class TrainState(Config):
    """The one schema of state.json: all that a resumed run must know besides tensors.

    `history` are the validations judged by, `full` those of all rows where they are others.
    `made_with` are the settings that decide the numbers, by dotted name; a run with others may not go on from here.
    `counters` is what the training loop remembers from step to step, as JSON that comes back equal.
    """

    version: Literal[1] = 1
    step: int = Field(ge=0)
    epoch: int = Field(ge=0)
    rows_into_epoch: int = Field(ge=0)
    trained_s: float = Field(ge=0)
    history: tuple[Evaluation, ...]
    full: tuple[Evaluation, ...] = ()
    made_with: dict[str, str]
    counters: dict[str, JsonValue] = Field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """What one folder held: groups of tensors by file stem, and the state.

    The tensors are views of mapped files (`tensors_file.read`): copy what is to stay.
    """

    name: str
    tensors: Mapping[str, dict[str, Tensor]]
    state: TrainState


class Writer:
    """Writes checkpoints while training goes on: a save stalls it for a copy into host memory, a thread does the rest.

    The folder `step-NNNNNNNN` appears whole or not at all; then older ones beyond the newest `keep` go, the best stays.
    `took_s` is how long the last one took to write.
    A fault of the thread is raised by the next `save` or `wait`, as StageError. `beat` is called while one of them waits.
    `resumed_from` is the step whose checkpoint this process began with: that one is never written again.
    """

    def __init__(self, folder: Path, keep: int, *, resumed_from: int | None = None, beat: Callable[[], None] = lambda: None) -> None:
        """Removes what dead processes left half-written in `folder`."""
        self.folder, self.keep, self.resumed_from = folder, keep, resumed_from
        self._beat = beat
        self._staged: dict[str, tensors_file.Staged] = {}
        self._thread: Thread | None = None
        self._fault: Exception | None = None
        self.took_s = 0.0
        for step in _steps_left_over(folder):
            remove_leftovers(folder / step)

    def save(
        self, state: TrainState, tensors: Mapping[str, Mapping[str, Tensor]], *, wanted: int | None = None, goes_on: bool = True
    ) -> None:
        """Returns when `tensors` are copied and may change again; a save that is still under way is waited for.

        Where training does not go on nothing is copied: they may change after wait(). The checkpoint of the step `wanted` is kept
        whatever its age.
        """
        self.wait()
        if state.step == self.resumed_from:
            return
        if goes_on:
            self._stage(tensors)
        parts = self._staged if goes_on else {stem: tensors_file.Live(group) for stem, group in tensors.items()}
        self._thread = Thread(target=self._run, args=(state, parts, wanted), name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Returns when nothing is under way any more. StageError when the last save could not be written."""
        self.close()
        fault, self._fault = self._fault, None
        if fault is not None:
            raise fault

    def drop_after(self, step: int) -> None:
        """Removes checkpoints after `step`: the steps that follow it are made anew, and their checkpoints too."""
        self.wait()
        self.resumed_from = None
        for name in names(self.folder):
            if name > name_of(step):
                _drop(self.folder / name)

    def close(self) -> None:
        """Lets the save that is under way end, well or not."""
        while self._thread is not None:
            self._thread.join(1.0)
            self._beat()
            if not self._thread.is_alive():
                self._thread = None

    def prepare(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Takes the room for a save of such tensors while training goes on, so that the first save stalls it no longer than others."""
        def take() -> None:
            with suppress(MemoryError, RuntimeError):  # the save asks for the room again, and says so where there is none
                self._take_room(tensors)

        self.wait()
        self._thread = Thread(target=take, name="checkpoint")
        self._thread.start()

    def _take_room(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        pinned = bool(_cards(tensors))
        self._staged = {stem: staged for stem, staged in self._staged.items() if stem in tensors and staged.fits(tensors[stem])}
        for stem, group in tensors.items():
            if stem not in self._staged:
                self._staged[stem] = tensors_file.Staged(group, pinned=pinned)

    def _stage(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        self._take_room(tensors)
        for stem, group in tensors.items():
            self._staged[stem].copy(group)
        for device in _cards(tensors):
            torch.cuda.current_stream(device).synchronize()

    def _run(self, state: TrainState, parts: Mapping[str, tensors_file.Staged | tensors_file.Live], wanted: int | None) -> None:
        began = time.monotonic()
        try:
            self._write(state, parts)
            self.took_s = time.monotonic() - began
            prune(self.folder, self.keep, state.history, wanted)
        except OSError as fault:
            self._fault = StageError(self._told(state.step, sum(part.size_bytes for part in parts.values()), fault))
        except Exception as fault:
            self._fault = fault

    def _write(self, state: TrainState, parts: Mapping[str, tensors_file.Staged | tensors_file.Live]) -> None:
        with output_folder(self.folder / name_of(state.step)) as partial:
            files = {f"{stem}{_TENSORS}": part.write(partial / f"{stem}{_TENSORS}") for stem, part in parts.items()}
            text = canonical_json(state.model_dump(mode="json"))
            (partial / _STATE).write_bytes(text)
            files[_STATE] = digest_bytes(text)
            (partial / _INDEX).write_bytes(canonical_json({"version": 1, "files": files}))

    def _told(self, step: int, needed: int, fault: OSError) -> str:
        there = names(self.folder)
        kept = f"{', '.join(there)} lie there unharmed" if there else "there is none before it"
        return (f"the checkpoint of step {step} could not be written: {fault.strerror or fault}; it needs {size(needed)} free on the disk "
                f"of {self.folder} (lower training.keep, or free them elsewhere); {kept}, and the same command goes on from the newest")


def name_of(step: int) -> str:
    """The name of the checkpoint after `step`."""
    return f"step-{step:08d}"


def names(folder: Path) -> list[str]:
    """Names of the checkpoints in `folder`, newest first; half-written ones have no such name."""
    if not folder.is_dir():
        return []
    return sorted((entry.name for entry in folder.iterdir() if _NAME.fullmatch(entry.name)), reverse=True)


def load(path: Path) -> Checkpoint:
    """Reads one checkpoint. StageError saying what is wrong when a byte, a file or the schema is not as written."""
    index = read_object(path / _INDEX)
    files = index.get("files")
    if index.get("version") != 1 or not isinstance(files, dict) or canonical_json(index) != (path / _INDEX).read_bytes():
        raise StageError(f"{path / _INDEX} has no version 1 list of files, or is not as it was written")
    missing = next((path / name for name in [*files, _STATE] if not (path / name).is_file()), None)
    if missing is not None:
        raise StageError(f"{missing} is missing")
    tensors = {}
    for name, digest in files.items():
        if name.endswith(_TENSORS):
            tensors[name.removesuffix(_TENSORS)] = tensors_file.read(path / name, digest)
        elif digest_path(path / name) != digest:
            raise StageError(f"{path / name} is not as it was written (its digest differs)")
    try:
        state = TrainState.model_validate(read_object(path / _STATE))
    except ValidationError as fault:
        raise StageError(f"{path}: {fault}") from None
    if path.name != name_of(state.step):
        raise StageError(f"{path} holds the state after step {state.step}")
    return Checkpoint(path.name, tensors, state)


def newest(folder: Path, say: Callable[[str], None], up_to: int | None = None) -> Checkpoint | None:
    """The newest good checkpoint, of step `up_to` or before it; each torn or corrupt one on the way is named to `say` and left alone.

    None where there is none at all. StageError where none is good: what was trained is lost, and beginning anew is not for us to choose.
    """
    there = names(folder)
    for name in there if up_to is None else [name for name in there if name <= name_of(up_to)]:
        try:
            return load(folder / name)
        except StageError as fault:
            say(f"checkpoint {name} is skipped: {fault}")
    if there or up_to is not None:
        which = "" if up_to is None else f" up to step {up_to}"
        raise StageError(f"none of the checkpoints in {folder}{which} is whole, so there is nothing to go on from; bring one of them "
                         "back, or remove them and the same command begins anew")
    return None


def prune(folder: Path, keep: int, history: Sequence[Evaluation], wanted: int | None = None) -> None:
    """Removes all but the newest `keep`, the one whose own validation was the lowest, and that of the step `wanted`."""
    there = names(folder)
    judged = {name_of(e.step): e.loss for e in history}
    best = min((name for name in there if name in judged), key=lambda name: judged[name], default=None)
    for name in there[keep:]:
        if name not in (best, None if wanted is None else name_of(wanted)):
            _drop(folder / name)


def _drop(path: Path) -> None:
    """Renamed before it is removed: a kill in between leaves no half of a checkpoint under its name."""
    gone = path.with_name(f"{path.name}.old-{os.getpid()}")
    path.rename(gone)
    remove(gone)


def _cards(tensors: Mapping[str, Mapping[str, Tensor]]) -> set[torch.device]:
    return {tensor.device for group in tensors.values() for tensor in group.values() if tensor.device.type == "cuda"}


def _steps_left_over(folder: Path) -> set[str]:
    """Names of checkpoints of which a half-written or replaced folder lies in `folder`."""
    found = (entry.name.partition(".")[0] for entry in folder.iterdir() if "." in entry.name) if folder.is_dir() else ()
    return {name for name in found if _NAME.fullmatch(name)}
