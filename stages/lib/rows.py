"""Token rows in Arrow IPC files: written in shards of one column, mapped when read; knows no order and no model.

A shard is one uncompressed record batch, so that a mapped file is the array itself. pyarrow and numpy are imported on use.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.lib.stage import StageError

if TYPE_CHECKING:
    import numpy as np

COLUMN = "input_ids"
SUFFIX = ".arrow"


class RowShards:
    """Writes rows of one length to `shard-00000.arrow`, ...; equal rows give equal bytes, however they were handed over.

    It holds one shard in memory.
    """

    def __init__(self, folder: Path, seq_len: int, dtype: str, rows_per_shard: int) -> None:
        import pyarrow as pa

        self.folder, self.seq_len, self.rows_per_shard = folder, seq_len, rows_per_shard
        self.names: list[str] = []
        self._schema = pa.schema([pa.field(COLUMN, pa.list_(pa.from_numpy_dtype(dtype), seq_len), nullable=False)])
        self._held: list[np.ndarray[Any, Any]] = []
        self._count = 0
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, rows: np.ndarray[Any, Any]) -> None:
        """Append rows (count, seq_len), going on to the next shard where one is full."""
        while len(rows):
            room = self.rows_per_shard - self._count
            self._held.append(rows[:room])
            self._count += len(rows[:room])
            rows = rows[room:]
            if self._count == self.rows_per_shard:
                self._flush()

    def close(self) -> None:
        """Write what is held."""
        if self._count:
            self._flush()

    def _flush(self) -> None:
        import numpy as np
        import pyarrow as pa

        values = pa.array(np.concatenate(self._held).reshape(-1))
        rows = pa.FixedSizeListArray.from_arrays(values, self.seq_len)
        self.names.append(f"shard-{len(self.names):05d}{SUFFIX}")
        file = str(self.folder / self.names[-1])
        with pa.OSFile(file, "wb") as sink, pa.ipc.new_file(sink, self._schema) as writer:
            writer.write_batch(pa.record_batch([rows], schema=self._schema))
        self._held, self._count = [], 0


class Rows:
    """The rows of many shards as one array (rows, seq_len); what is read of it is copied, the rest stays where it is."""

    def __init__(self, parts: Sequence[np.ndarray[Any, Any]]) -> None:
        """`parts`: arrays (rows, seq_len) of one dtype, each in one piece in memory; at least one row in all."""
        import numpy as np

        first = parts[0]
        if any(part.dtype != first.dtype or part.shape[1] != first.shape[1] or not part.flags.c_contiguous for part in parts):
            raise ValueError("the parts are not rows of one length and type")
        self.dtype, self._parts = first.dtype, parts
        self._starts = np.cumsum([0, *map(len, parts)])
        self.shape = (int(self._starts[-1]), int(first.shape[1]))
        addresses = np.array([part.__array_interface__["data"][0] for part in parts])
        self._offsets = (addresses - addresses.min()) // self.dtype.itemsize
        self._window = np.asarray(_Window(int(addresses.min()), self._offsets, self))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: slice | np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Rows by a slice or by an array of numbers, in the order asked for; IndexError for a number that is none."""
        import numpy as np

        numbers = np.arange(*which.indices(len(self))) if isinstance(which, slice) else np.asarray(which, dtype=np.int64)
        if len(numbers) and (numbers.min() < 0 or numbers.max() >= len(self)):
            raise IndexError(f"there are rows 0 to {len(self) - 1}, not {numbers.min()} to {numbers.max()}")
        part = np.searchsorted(self._starts, numbers, side="right") - 1
        found: np.ndarray[Any, Any] = self._window[self._offsets[part] + (numbers - self._starts[part]) * self.shape[1]]
        return found


class _Window:
    """Every place in memory from the first part to the end of the last at which a row could begin, as numpy's array interface.

    Most of it belongs to no part and must not be read; `Rows` asks for rows of its parts only. So one gather in C reads from a
    thousand mappings, which costs what it costs from one array.
    """

    def __init__(self, address: int, offsets: np.ndarray[Any, Any], rows: Rows) -> None:
        item, length = rows.dtype.itemsize, rows.shape[1]
        numbers = [len(part) for part in rows._parts]
        places = max(int(offset) + (count - 1) * length for offset, count in zip(offsets, numbers, strict=True)) + 1
        self.__array_interface__ = {
            "data": (address, True), "shape": (places, length), "strides": (item, item), "typestr": rows.dtype.str, "version": 3,
        }


def mapped(files: Sequence[Path]) -> list[np.ndarray[Any, Any]]:
    """Each shard's rows as a read-only array over its mapped file, which keeps no descriptor open.

    Equally large shards of one writer hold their array at the same place, so that it is looked up once for each size: proving that the
    files are the ones written is the caller's part. StageError when a file is no shard.
    """
    import numpy as np
    import pyarrow as pa

    places: dict[int, tuple[int, int, int, str]] = {}
    found = []
    for file in files:
        # Closing the source gives its descriptor back; the mapping lives as long as an array over it.
        with pa.memory_map(str(file)) as source:
            whole = source.read_buffer()
        if whole.size not in places:
            places[whole.size] = _place(file, whole)
        offset, count, length, dtype = places[whole.size]
        found.append(np.frombuffer(whole, dtype, offset=offset, count=count * length).reshape(count, length))
    return found


def _place(file: Path, whole: Any) -> tuple[int, int, int, str]:
    """Where in a shard its array begins, its rows and their length, and its type."""
    import pyarrow as pa

    try:
        reader = pa.ipc.open_file(whole)
        rows = reader.get_batch(0).column(COLUMN)
        values = rows.flatten()
        offset = values.buffers()[1].address - whole.address
        if reader.num_record_batches != 1 or not 0 < offset < whole.size:
            raise ValueError("its rows are not one uncompressed record batch")
        return offset, len(rows), rows.type.list_size, str(values.type.to_pandas_dtype().__name__)
    except (pa.ArrowException, KeyError, ValueError, AttributeError, IndexError) as fault:
        raise StageError(f"{file} holds no packed rows: {str(fault).splitlines()[0]}") from None
