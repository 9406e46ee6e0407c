"""Tiny inputs and runs for the tests of the data stages; asserts nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from stages.lib.load import load_mapping
from stages.lib.stage import Plan, Report, Run
from stages.lib.tables import Document, DocumentShards

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "numpy", "pyarrow", "tokenizers", "transformers", "blake3")


def config_of(stage: str, values: Mapping[str, Any]) -> Any:
    return load_mapping(import_module(f"stages.{stage}").Config, stage, values)


def plan_of(stage: str, **values: Any) -> Plan:
    return import_module(f"stages.{stage}").plan(config_of(stage, values))


def apply_of(stage: str, attempt: Path, **values: Any) -> Report:
    run = Run(attempt, attempt / "work")
    try:
        return import_module(f"stages.{stage}").apply(config_of(stage, values), run)
    finally:
        run.close()


def albor_stage(
    *argv: str, cwd: Path, before: Sequence[str] = (), stdin: str = "", environ: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own, with the code found through PYTHONPATH."""
    known = {k: v for k, v in os.environ.items() if not k.startswith("ALBOR_")}
    return subprocess.run(
        [*before, sys.executable, "-m", "stages.lib.cli", *argv], cwd=cwd, input=stdin, capture_output=True, text=True,
        env={**known, "PYTHONPATH": str(ROOT), **(environ or {})}, timeout=120, check=False,
    )


def write_config(folder: Path, name: str, **values: Any) -> str:
    (folder / name).write_text(json.dumps(values))
    return name


def sources(folder: Path, files: int = 40) -> Path:
    """A folder of small, different Python files."""
    for n in range(files):
        path = folder / f"pkg{n % 3}" / f"mod{n}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        body = "".join(f"    total_{k} = value * {k + n} + len(name)\n" for k in range(5 + n % 7))
        path.write_text(f"def function_{n}(value, name):\n    '''Number {n}.'''\n{body}    return total_{n % 5}\n")
    return folder


def text_table(folder: Path, texts: Sequence[str], facts: Mapping[str, str] | None = None) -> Path:
    """A folder of one Parquet shard with these texts."""
    shards = DocumentShards(folder, 1000, facts)
    for n, text in enumerate(texts):
        shards.add(Document(f"f{n}.py", "test", text))
    shards.close()
    return folder


def column(folder: Path, name: str) -> list[Any]:
    """A column over all shards of a folder, in order."""
    return [v for file in sorted(folder.glob("*.parquet")) for v in pq.read_table(file)[name].to_pylist()]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file under a folder with its bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
