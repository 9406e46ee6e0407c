"""Packed token rows and the order in which training reads them; knows no model. torch and numpy are imported on use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.files import digest_path
from stages.lib.stage import StageError
from stages.lib.strict_json import read_object

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True)
class Packed:
    """What manifest.json says of one side (train or val) of a packed folder."""

    folder: Path
    seq_len: int
    vocab_size: int
    eos_id: int
    pad_id: int | None
    tokenizer: str
    lineage: str
    rows: int
    tokens: int
    bytes_covered: int
    shards: tuple[tuple[str, str], ...]

    @property
    def tokens_per_byte(self) -> float:
        """Tokens in the rows for each byte of text they stand for."""
        return self.tokens / self.bytes_covered


def manifest_of(side: Path) -> Path:
    """Where the manifest of `side` lies: beside it."""
    return side.parent / "manifest.json"


def read_packed(side: Path) -> Packed:
    """What is said of `side`; StageError when its manifest is not there or says nothing of it."""
    path = manifest_of(side)
    manifest = read_object(path)
    try:
        facts = manifest[side.name]
        return Packed(
            side.parent, int(manifest["seq_len"]), int(manifest["vocab_size"]), int(manifest["eos_id"]),
            int(manifest["pad_id"]) if facts["pad_tokens"] else None, str(manifest["tokenizer"]),
            str(manifest["lineage"]), int(facts["rows"]), int(facts["tokens"]), int(facts["bytes_covered"]),
            tuple((str(shard["name"]), str(shard["digest"])) for shard in facts["shards"]),
        )
    except (KeyError, TypeError, ValueError) as fault:
        raise StageError(f"{path} does not describe {side.name}: {type(fault).__name__} {fault}") from None


def read_rows(packed: Packed) -> np.ndarray[Any, Any]:
    """All rows (rows, seq_len) as stored; StageError naming a shard that is missing or not the one packed."""
    import numpy as np
    import pyarrow.parquet as pq

    parts = []
    for name, digest in packed.shards:
        file = packed.folder / name
        if not file.is_file():
            raise StageError(f"{file} is missing")
        if digest_path(file) != digest:
            raise StageError(f"{file} is not as it was packed (its digest differs from the one in manifest.json)")
        for chunk in pq.read_table(file, columns=["input_ids"])["input_ids"].chunks:
            parts.append(chunk.flatten().to_numpy().reshape(len(chunk), -1))
    rows = np.concatenate(parts)
    if rows.shape != (packed.rows, packed.seq_len):
        raise StageError(f"{packed.folder} holds rows {rows.shape}, its manifest says {packed.rows, packed.seq_len}")
    return rows


class Loader:
    """Rows in one shuffled order per epoch, fixed by the seed: what step N reads follows from N alone.

    So the position after a crash is the step, nothing is read twice or left out within an epoch, and the first
    batches come from all shards alike.
    """

    def __init__(self, rows: np.ndarray[Any, Any], rows_per_step: int, seed: int, pad_id: int | None) -> None:
        self.rows, self.rows_per_step, self.seed, self.pad_id = rows, rows_per_step, seed, pad_id
        self.steps_per_epoch = len(rows) // rows_per_step
        self._epoch, self._order = -1, rows[:0, 0]

    def position(self, step: int) -> tuple[int, int]:
        """The epoch, and the rows read in it, once `step` steps are done."""
        epoch, steps = divmod(step, self.steps_per_epoch)
        return epoch, steps * self.rows_per_step

    def rows_of(self, step: int) -> np.ndarray[Any, Any]:
        """Numbers of the rows that `step` (from 1) reads."""
        epoch, start = self.position(step - 1)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, shuffled(len(self.rows), self.seed, epoch)
        return self._order[start : start + self.rows_per_step]

    def micro_batches(self, step: int, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The rows of `step` as (inputs, targets), `size` rows at a time."""
        return batches(self.rows[self.rows_of(step)], size, self.pad_id)


def shuffled(count: int, seed: int, epoch: int) -> np.ndarray[Any, Any]:
    """The order of `count` rows in one epoch, by numpy's Philox keyed with seed and epoch."""
    import numpy as np

    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)


def batches(
    rows: np.ndarray[Any, Any], size: int, pad_id: int | None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Inputs and targets (size, seq_len - 1), each target the token after its input; a pad target does not count."""
    import torch

    from stages.lib.loss import IGNORED

    for start in range(0, len(rows), size):
        ids = torch.from_numpy(rows[start : start + size].astype("int64"))
        targets = ids[:, 1:] if pad_id is None else ids[:, 1:].masked_fill(ids[:, 1:] == pad_id, IGNORED)
        yield ids[:, :-1], targets
