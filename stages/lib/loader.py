"""Packed token rows and the order in which training reads them; knows no model. torch and numpy are imported on use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stages.lib.files import digest_path
from stages.lib.rows import SUFFIX, Rows, mapped
from stages.lib.stage import StageError
from stages.lib.strict_json import read_object

if TYPE_CHECKING:
    import numpy as np
    import torch


@dataclass(frozen=True)
class Packed:
    """What manifest.json says of one side (train or val) of a packed folder; `max_id`: None where it was packed before that was told."""

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
    max_id: int | None = None

    @property
    def tokens_per_byte(self) -> float:
        """Tokens in the rows for each byte of text they stand for."""
        return self.tokens / self.bytes_covered


def manifest_of(side: Path) -> Path:
    """Where the manifest of `side` lies: beside it."""
    return side.parent / "manifest.json"


def read_packed(side: Path) -> Packed:
    """What is said of `side`; StageError when its manifest is not there, says nothing of it or names shards of another kind."""
    path = manifest_of(side)
    manifest = read_object(path)
    try:
        facts = manifest[side.name]
        packed = Packed(
            side.parent, int(manifest["seq_len"]), int(manifest["vocab_size"]), int(manifest["eos_id"]),
            int(manifest["pad_id"]) if facts["pad_tokens"] else None, str(manifest["tokenizer"]),
            str(manifest["lineage"]), int(facts["rows"]), int(facts["tokens"]), int(facts["bytes_covered"]),
            tuple((str(shard["name"]), str(shard["digest"])) for shard in facts["shards"]),
            int(facts["max_id"]) if "max_id" in facts else None,
        )
    except (KeyError, TypeError, ValueError) as fault:
        raise StageError(f"{path} does not describe {side.name}: {type(fault).__name__} {fault}") from None
    foreign = next((name for name, _ in packed.shards if not name.endswith(SUFFIX)), None)
    if foreign is not None or not packed.shards:
        raise StageError(f"{path} names {foreign or 'no shard'}, and training maps shards *{SUFFIX}; pack again")
    return packed


def read_rows(packed: Packed) -> Rows:
    """All rows as stored, mapped and not held in memory; StageError naming a shard that is missing or not the one packed."""
    files = [packed.folder / name for name, _ in packed.shards]
    for file, (_, digest) in zip(files, packed.shards, strict=True):
        if not file.is_file():
            raise StageError(f"{file} is missing")
        if digest_path(file) != digest:
            raise StageError(f"{file} is not as it was packed (its digest differs from the one in manifest.json)")
    rows = Rows(mapped(files))
    if rows.shape != (packed.rows, packed.seq_len):
        raise StageError(f"{packed.folder} holds rows {rows.shape}, its manifest says {packed.rows, packed.seq_len}")
    return rows


class Phase(NamedTuple):
    """Rows to read up to `until_step`, that step included; the last phase goes on to the end of the run.

    Phases with the same object as rows share one position.
    """

    rows: Rows | np.ndarray[Any, Any]
    until_step: int | None = None


class Place(NamedTuple):
    """Where a step reads: which of the different rows of all phases, the epoch of these, and the rows of it read before."""

    source: int
    epoch: int
    start: int


class Loader:
    """Rows in one shuffled order per epoch, fixed by the seed: what step N reads follows from N alone.

    So the position after a crash is the step, nothing is read twice or left out within an epoch, and the first
    batches come from all shards alike. What does not fill a step at the end of an epoch is left over; the next
    epoch's order leaves over other rows.

    With phases (a curriculum) each one's rows have a position and epochs of their own, which only its steps move:
    rows that come again in a later phase go on where they were.
    """

    def __init__(
        self, rows: Rows | np.ndarray[Any, Any] | Sequence[Phase], rows_per_step: int, seed: int, pad_id: int | None,
    ) -> None:
        """StageError when the phases have no order, or one has too few rows for a step."""
        phases = list(rows) if isinstance(rows, list | tuple) else [Phase(rows)]
        self.rows_per_step, self.seed, self.pad_id = rows_per_step, seed, pad_id
        self.sources = list({id(phase.rows): phase.rows for phase in phases}.values())
        numbers = {id(source): number for number, source in enumerate(self.sources)}
        self._phases = _spans(phases, [numbers[id(phase.rows)] for phase in phases])
        for source in self.sources:
            if len(source) < rows_per_step:
                raise StageError(f"{len(source):,} rows do not fill a step of {rows_per_step:,}; lower batch_size or accumulation")
        self._orders: dict[tuple[int, int], np.ndarray[Any, Any]] = {}

    def place(self, step: int) -> Place:
        """Where `step` (from 1) reads."""
        number = next(n for n, (_, _, until) in enumerate(self._phases) if until is None or step <= until)
        source, before, _ = self._phases[number]
        done = step - 1 - before
        done += sum(until - begin for other, begin, until in self._phases[:number] if other == source and until is not None)
        epoch, steps = divmod(done, len(self.sources[source]) // self.rows_per_step)
        return Place(source, epoch, steps * self.rows_per_step)

    def position(self, step: int) -> tuple[int, int]:
        """The epoch, and the rows read in it, once `step` steps are done; of the rows that the step after it reads."""
        return self.place(step + 1)[1:]

    def rows_of(self, step: int) -> np.ndarray[Any, Any]:
        """Numbers of the rows that `step` (from 1) reads, among those of its phase."""
        source, epoch, start = self.place(step)
        return self._order(source, epoch)[start : start + self.rows_per_step]

    def micro_batches(self, step: int, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """The rows of `step` as (inputs, targets), `size` rows at a time."""
        return batches(self.sources[self.place(step).source][self.rows_of(step)], size, self.pad_id)

    def _order(self, source: int, epoch: int) -> np.ndarray[Any, Any]:
        """Two orders are kept, since a prefetch reads the next epoch while the log still names rows of this one."""
        order = self._orders.get((source, epoch))
        if order is None:
            order = shuffled(len(self.sources[source]), self.seed, epoch)
            latest = dict([*self._orders.items()][-1:])
            self._orders = {**latest, (source, epoch): order}
        return order


def _spans(phases: Sequence[Phase], sources: Sequence[int]) -> list[tuple[int, int, int | None]]:
    """Each phase as its source, the steps before it, and its last step; the last phase has none, for a prefetch looks beyond the end."""
    ends = [phase.until_step for phase in phases]
    begins = [0, *ends[:-1]]
    if None in begins or any(end is not None and end <= (begin or 0) for begin, end in zip(begins, ends, strict=True)):
        raise StageError(f"phases end at steps {ends}; each must end after the one before")
    return [(source, begin or 0, end) for source, begin, end in zip(sources, begins, [*ends[:-1], None], strict=True)]


def shuffled(count: int, seed: int, epoch: int) -> np.ndarray[Any, Any]:
    """The order of `count` rows in one epoch, by numpy's Philox keyed with seed and epoch."""
    import numpy as np

    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(count)


def batches(
    rows: Rows | np.ndarray[Any, Any], size: int, pad_id: int | None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Inputs and targets (size, seq_len - 1), each target the token after its input; a pad target does not count."""
    import numpy as np
    import torch

    from stages.lib.loss import IGNORED

    for start in range(0, len(rows), size):
        # By numpy, for the threads that torch would start in a prefetch's thread take the cores from training.
        ids = rows[start : start + size].astype("int64")
        targets = ids[:, 1:] if pad_id is None else np.where(ids[:, 1:] == pad_id, IGNORED, ids[:, 1:])
        yield torch.from_numpy(ids[:, :-1]), torch.from_numpy(targets)
