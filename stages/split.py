"""Split: training and validation documents, disjoint by content; knows neither where they came from nor tokens."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from stages.lib.checks import apart_check, disk_check, parquet_check, parquet_files, total_bytes
from stages.lib.config import Config as BaseConfig
from stages.lib.config import HumanInt, OutText, PathText
from stages.lib.files import canonical_json, digest_bytes, digest_path, output_folder
from stages.lib.plan_text import count, size
from stages.lib.stage import Plan, Report, Run, StageError

_BYTES_PER_S = 8e6
SIDES = ("train", "val")


class Config(BaseConfig):
    """A document goes to validation when BLAKE3 of its text, modulo 1000, is below `val_permille`."""

    input: PathText
    out: OutText
    val_permille: HumanInt = Field(50, ge=1, le=999)
    rows_per_shard: HumanInt = Field(10_000, ge=1)


def plan(config: Config) -> Plan:
    """Judges paths and space."""
    need_bytes = total_bytes(parquet_files(Path(config.input)))
    return Plan(
        "split",
        (
            ("Input", (f"{config.input}, {size(need_bytes)} of Parquet",)),
            ("Rule", (_rule(config), "equal texts are always on one side")),
            ("Writes", (f"{config.out}/train and {config.out}/val",)),
        ),
        (parquet_check("input", config.input), apart_check(config.out, [config.input]),
         disk_check(config.out, need_bytes)),
        reads=(config.input,), writes=(config.out,),
        estimates={"disk_bytes": need_bytes, "seconds": 1 + need_bytes / _BYTES_PER_S},
    )


def apply(config: Config, run: Run) -> Report:
    """Writes both sides; a side that would be empty is an error, for nothing could be measured on it."""
    import pyarrow as pa

    from stages.lib.tables import DocumentShards, documents

    source, out = Path(config.input), Path(config.out)
    lineage = digest_bytes(canonical_json({"rule": _rule(config), "input": digest_path(source)}))
    with output_folder(out) as folder:
        sides = {side: DocumentShards(folder / side, config.rows_per_shard, {"lineage": lineage, "side": side})
                 for side in SIDES}
        for document in documents(source):
            sides[side_of(document.text, config.val_permille)].add(document)
        for side, shards in sides.items():
            shards.close()
            if not shards.documents:
                raise StageError(f"no document of {config.input} falls on the {side} side; change val_permille")
    train, val = sides["train"], sides["val"]
    run.progress(train.documents + val.documents, train.documents + val.documents)
    return Report(
        {"train_documents": train.documents, "train_bytes": train.text_bytes, "val_documents": val.documents,
         "val_bytes": val.text_bytes, "lineage": lineage},
        (f"train {count(train.documents, 'document')}, {size(train.text_bytes)}",
         f"validation {count(val.documents, 'document')}, {size(val.text_bytes)}"),
        {config.out: digest_path(out)}, {"pyarrow": pa.__version__},
    )


def side_of(text: str, val_permille: int) -> str:
    """`val` or `train`, by content alone: the first 8 bytes of BLAKE3, big-endian, modulo 1000."""
    from blake3 import blake3

    number = int.from_bytes(blake3(text.encode()).digest()[:8], "big")
    return "val" if number % 1000 < val_permille else "train"


def _rule(config: Config) -> str:
    return f"validation when BLAKE3(text) mod 1000 < {config.val_permille}"
