"""Shards of token rows: mapped without decoding, read by number, refused when they are none of ours."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from stages.lib.rows import Rows, RowShards, mapped
from stages.lib.stage import StageError


def written(folder: Path, rows: np.ndarray, rows_per_shard: int = 10, pieces: int = 7) -> list[Path]:
    shards = RowShards(folder, rows.shape[1], str(rows.dtype), rows_per_shard)
    for start in range(0, len(rows), pieces):
        shards.write(rows[start : start + pieces])
    shards.close()
    return [folder / name for name in shards.names]


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_rows_come_back_by_number_and_by_slice(tmp_path: Path, dtype: str) -> None:
    dice = np.random.Generator(np.random.Philox(key=1))
    whole = dice.integers(0, 60_000, (1037, 9)).astype(dtype)
    rows = Rows(mapped(written(tmp_path, whole, 50)))
    assert (rows.shape, str(rows.dtype), len(rows)) == ((1037, 9), dtype, 1037)
    for numbers in (dice.permutation(1037), np.array([1036, 0, 0, 49, 50]), np.array([], dtype=np.int64)):
        assert (rows[numbers] == whole[numbers]).all()
    for part in (slice(None), slice(45, 103), slice(1030, 2000), slice(5, 5)):
        assert (rows[part] == whole[part]).all()


def test_a_number_that_is_no_row_is_refused(tmp_path: Path) -> None:
    rows = Rows(mapped(written(tmp_path, np.zeros((30, 4), dtype="uint16"))))
    for numbers in ([30], [-1], [0, 4000]):
        with pytest.raises(IndexError, match="rows 0 to 29"):
            rows[np.array(numbers)]


def test_a_shard_is_mapped_as_it_lies_on_the_disk_and_holds_no_descriptor(tmp_path: Path) -> None:
    """ALB-081, ALB-099: whole data sets were read into memory."""
    whole = np.arange(40_000, dtype="uint32").reshape(-1, 4)
    files = written(tmp_path, whole, 5)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(500, limit[0]), limit[1]))
    try:
        parts = mapped(files)
        assert len(parts) == 2000 and len(list(Path("/proc/self/fd").iterdir())) < 100
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    spans = [[int(end, 16) for end in line.split()[0].split("-")] for line in lines]
    places = [part.__array_interface__["data"][0] for part in parts]
    assert all(any(begin <= place < end for begin, end in spans) for place in places[:20])
    with pytest.raises(ValueError, match="read-only"):
        parts[0][0, 0] = 1


def test_equal_rows_give_equal_bytes_however_they_come(tmp_path: Path) -> None:
    rows = np.arange(400, dtype="uint16").reshape(-1, 4)
    ways = [written(tmp_path / str(pieces), rows, 30, pieces) for pieces in (1, 13, 100)]
    assert len({tuple(file.read_bytes() for file in files) for files in ways}) == 1
    assert [len(part) for part in mapped(ways[0])] == [30, 30, 30, 10]


def foreign(file: Path, column: str, batches: int, kind: pa.DataType, codec: str | None) -> None:
    schema = pa.schema([pa.field(column, kind)])
    batch = pa.record_batch([pa.array([[1, 2]] * 3000, type=kind)], schema=schema)
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, schema, options=options) as writer:
        for _ in range(batches):
            writer.write_batch(batch)


@pytest.mark.parametrize(("column", "batches", "kind", "codec"), [
    ("ids", 1, pa.list_(pa.uint16(), 2), None), ("input_ids", 2, pa.list_(pa.uint16(), 2), None),
    ("input_ids", 0, pa.list_(pa.uint16(), 2), None), ("input_ids", 1, pa.list_(pa.uint16()), None),
    ("input_ids", 1, pa.list_(pa.uint16(), 2), "zstd"),
])
def test_a_file_of_another_kind_is_refused_by_name(tmp_path: Path, column: str, batches: int, kind: pa.DataType, codec: str | None) -> None:
    foreign(tmp_path / "x.arrow", column, batches, kind, codec)
    with pytest.raises(StageError, match=r"x\.arrow holds no packed rows"):
        mapped([tmp_path / "x.arrow"])
    (tmp_path / "x.arrow").write_bytes(b"no arrow file")
    with pytest.raises(StageError, match=r"x\.arrow holds no packed rows"):
        mapped([tmp_path / "x.arrow"])
