"""Parquet tables of documents (`file, source, text`), read row by row and written in shards of equal bytes for equal
rows; imports pyarrow only when used and knows no stage."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from stages.lib.checks import parquet_files
from stages.lib.stage import StageError

_GROUP_ROWS = 1000
_GROUP_BYTES = 16 << 20
_READ_ROWS = 256


class Document(NamedTuple):
    """One row: the file it came from, the collection that held it, and its text, byte for byte."""

    file: str
    source: str
    text: str


class ParquetShards:
    """Writes record columns to `part-00000.parquet`, ... (zstd); equal rows in equal order give equal bytes."""

    def __init__(self, folder: Path, schema: Any, rows_per_shard: int) -> None:
        self.folder, self.rows_per_shard = folder, rows_per_shard
        self.names: list[str] = []
        self._schema = schema
        self._writer: Any = None
        self._room = 0
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, table: Any) -> None:
        """Append the rows of an Arrow table, going on to the next shard where one is full."""
        while table.num_rows:
            if self._room == 0:
                self._next()
            rows = table.slice(0, self._room)
            self._writer.write_table(rows, row_group_size=_GROUP_ROWS)
            self._room -= rows.num_rows
            table = table.slice(rows.num_rows)

    def close(self) -> None:
        """Finish the last shard; without any row, one empty shard is written."""
        if self._writer is None:
            self._next()
        self._writer.close()

    def _next(self) -> None:
        import pyarrow.parquet as pq

        if self._writer is not None:
            self._writer.close()
        self.names.append(f"part-{len(self.names):05d}.parquet")
        self._writer = pq.ParquetWriter(self.folder / self.names[-1], self._schema, compression="zstd")
        self._room = self.rows_per_shard


class DocumentShards:
    """Shards of documents; `facts` are kept in the metadata of every shard."""

    def __init__(self, folder: Path, rows_per_shard: int, facts: Mapping[str, str] | None = None) -> None:
        import pyarrow as pa

        fields = [pa.field(name, pa.string(), nullable=False) for name in Document._fields]
        self._schema = pa.schema(fields, metadata=dict(facts or {}))
        self._shards = ParquetShards(folder, self._schema, rows_per_shard)
        self._rows: list[Document] = []
        self._held_chars = 0
        self.documents = self.text_bytes = 0

    def add(self, document: Document) -> None:
        """Append one document."""
        self._rows.append(document)
        self._held_chars += len(document.text)
        self.documents += 1
        self.text_bytes += len(document.text.encode())
        if len(self._rows) >= _GROUP_ROWS or self._held_chars >= _GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Write what is held and finish the last shard."""
        self._flush()
        self._shards.close()

    def _flush(self) -> None:
        import pyarrow as pa

        columns = [list(column) for column in zip(*self._rows, strict=True)] or [[] for _ in Document._fields]
        self._shards.write(pa.table(dict(zip(Document._fields, columns, strict=True)), schema=self._schema))
        self._rows, self._held_chars = [], 0


def documents(path: Path) -> Iterator[Document]:
    """Every document of a Parquet file or folder in order; raises StageError naming a file that is none."""
    for file in parquet_files(path):
        table = _open(file)
        names = table.schema_arrow.names
        columns = [name for name in Document._fields if name in names]
        row = 0
        for batch in table.iter_batches(batch_size=_READ_ROWS, columns=columns):
            for values in batch.to_pylist():
                if values["text"] is None:
                    raise StageError(f"{file}: row {row} has no text")
                yield Document(values.get("file") or f"{file.name}#{row}", values.get("source") or "", values["text"])
                row += 1


def facts_of(path: Path) -> dict[str, str]:
    """What the shards of `path` say of themselves; raises StageError when two of them disagree."""
    found: dict[str, str] | None = None
    for file in parquet_files(path):
        metadata = _open(file).schema_arrow.metadata or {}
        facts = {key.decode(): value.decode() for key, value in metadata.items() if not key.startswith(b"ARROW:")}
        if found is not None and facts != found:
            raise StageError(f"{file} comes from another run than the other files of {path}")
        found = facts
    return found or {}


def _open(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(file)
    except pa.ArrowInvalid as fault:
        raise StageError(f"{file} is not a Parquet file: {str(fault).splitlines()[0]}") from None
    schema = table.schema_arrow
    if "text" not in schema.names:
        raise StageError(f"{file} has no column `text`; it has {', '.join(schema.names)}")
    kind = schema.field("text").type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise StageError(f"{file}: the column `text` holds {kind}, not text")
    return table
