"""Ingest: Python source files of a folder, or of the standard library, to a Parquet table; knows no later stage."""

from __future__ import annotations

import os
import platform
import sysconfig
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field, model_validator

from stages.lib.checks import apart_check, disk_check
from stages.lib.config import Config as BaseConfig
from stages.lib.config import HumanInt, OutText, PathText
from stages.lib.files import digest_path, output_folder
from stages.lib.plan_text import count, size
from stages.lib.stage import Check, Plan, Report, Run, StageError

STDLIB = "python-stdlib"
_SKIP = ("node_modules", "__pycache__", "venv")
_SKIP_STDLIB = ("__pycache__", "test", "tests", "idle_test", "site-packages", "dist-packages")
_DISK_SHARE = 0.35
_BYTES_PER_S = 20e6
_NAMES_SHOWN = 5


class Config(BaseConfig):
    """`source` is a folder, or `python-stdlib`: the library of the interpreter that runs this, without its tests."""

    source: PathText = STDLIB
    name: str | None = Field(None, description="the `source` column; the folder's name when left out")
    out: OutText
    min_chars: HumanInt = Field(50, ge=0)
    max_chars: HumanInt = Field(1_000_000, ge=1)
    skip: tuple[str, ...] | None = Field(None, description="folder names left out, beside those that start with a dot")
    rows_per_shard: HumanInt = Field(10_000, ge=1)

    @model_validator(mode="after")
    def _bounds(self) -> Config:
        if self.min_chars > self.max_chars:
            raise ValueError(f"min_chars {self.min_chars} is above max_chars {self.max_chars}, so nothing is left")
        return self

    @property
    def root(self) -> Path:
        """The folder that is read."""
        return Path(sysconfig.get_path("stdlib")) if self.source == STDLIB else Path(self.source)

    @property
    def label(self) -> str:
        """The text of the `source` column."""
        return self.name or (STDLIB if self.source == STDLIB else self.root.resolve().name)

    @property
    def skipped(self) -> frozenset[str]:
        """Folder names left out."""
        return frozenset(self.skip if self.skip is not None else _SKIP_STDLIB if self.source == STDLIB else _SKIP)


def plan(config: Config) -> Plan:
    """Counts the files by name and size; opens none of them."""
    root = config.root
    files = list(_python_files(root, config.skipped)) if root.is_dir() else []
    text_bytes = sum(file.stat().st_size for file in files)
    disk_bytes = text_bytes * _DISK_SHARE
    library = config.source == STDLIB
    return Plan(
        "ingest",
        (
            ("Source", (f"{config.source}: {count(len(files), '*.py file')}, {size(text_bytes)}",
                        f"left out: folders {', '.join(sorted(config.skipped)) or 'none'} and those with a dot, links")),
            ("Keeps", (f"{config.min_chars:,} to {config.max_chars:,} characters of UTF-8",)),
            ("Writes", (f"{config.out}: Parquet `file, source, text`, about {size(disk_bytes)}",)),
        ),
        (_source_check(config, len(files)), apart_check(config.out, [] if library else [config.source]),
         disk_check(config.out, disk_bytes)),
        reads=() if library else (config.source,), writes=(config.out,),
        estimates={"files": len(files), "text_bytes": text_bytes, "disk_bytes": disk_bytes,
                   "seconds": 1 + text_bytes / _BYTES_PER_S},
    )


def apply(config: Config, run: Run) -> Report:
    """Writes the table; a file that is not UTF-8, too short or too long is counted and, where undecodable, named."""
    import pyarrow as pa

    from stages.lib.tables import Document, DocumentShards

    root, left_out, undecodable = config.root, Counter[str](), []
    files = list(_python_files(root, config.skipped))
    out = Path(config.out)
    with output_folder(out) as folder:
        shards = DocumentShards(folder, config.rows_per_shard)
        for number, file in enumerate(files, 1):
            name = file.relative_to(root).as_posix()
            text = _text(file, name)
            if text is None:
                undecodable.append(name.encode(errors="replace").decode())
            elif not config.min_chars <= len(text) <= config.max_chars:
                left_out["too_short" if len(text) < config.min_chars else "too_long"] += 1
            else:
                shards.add(Document(name, config.label, text))
            if number % 500 == 0 or number == len(files):
                run.progress(number, len(files))
        shards.close()
        if not shards.documents:
            raise StageError(f"none of the {count(len(files), 'file')} of {config.source} passes the rules")
    return Report(
        {"files": shards.documents, "text_bytes": shards.text_bytes, "too_short": left_out["too_short"],
         "too_long": left_out["too_long"], "undecodable": len(undecodable)},
        (f"{count(shards.documents, 'file')}, {size(shards.text_bytes)} of Python from {config.label}",
         _left_out_line(left_out, undecodable)),
        {config.out: digest_path(out)}, {"python": platform.python_version(), "pyarrow": pa.__version__},
    )


def _source_check(config: Config, files: int) -> Check:
    if files:
        return Check("source", "ok", f"{config.source} holds {count(files, '*.py file')}")
    if config.root.is_dir():
        return Check("source", "error", f"{config.source} holds no *.py file that may be read")
    if config.root.exists():
        return Check("source", "error", f"{config.source} is not a folder")
    return Check("source", "when-ready", f"{config.source} is not there yet")


def _python_files(root: Path, skipped: frozenset[str]) -> Iterator[Path]:
    """Regular *.py files under `root`, sorted by path; links are not followed, so that nothing is read twice."""
    found: list[tuple[str, Path]] = []
    for folder, folders, names in os.walk(root, onerror=_stop):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in skipped]
        paths = [Path(folder, name) for name in names if name.endswith(".py")]
        found += [(os.fspath(path.relative_to(root)), path) for path in paths if path.is_file() and not path.is_symlink()]
    return (path for _, path in sorted(found))


def _stop(fault: OSError) -> None:
    raise fault


def _text(file: Path, name: str) -> str | None:
    """The file byte for byte as text (line ends and marks kept), or None when it or its name is not UTF-8."""
    try:
        name.encode()
        return file.read_bytes().decode()
    except UnicodeError:
        return None


def _left_out_line(counts: Counter[str], undecodable: list[str]) -> str:
    more = len(undecodable) - _NAMES_SHOWN
    names = ", ".join(undecodable[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
    line = f"left out: {counts['too_short']} too short, {counts['too_long']} too long, {len(undecodable)} not UTF-8"
    return f"{line} ({names})" if undecodable else line
