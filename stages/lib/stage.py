"""What a stage is: Check, Plan, Report, and the Run that apply gets; knows no stage by name and no engine."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

Level = Literal["ok", "warning", "error", "when-ready"]
VERSION = 1


class StageError(Exception):
    """A fault of the input that only apply can see; its text is shown to the user without a traceback."""


@dataclass(frozen=True)
class Check:
    """One statement about a plan; `when-ready` means that what it judges does not exist yet."""

    name: str
    level: Level
    text: str


@dataclass(frozen=True)
class Plan:
    """What a stage would do. Paths in `reads` and `writes` stand as in the configuration; `_bytes` and `seconds` say units."""

    stage: str
    blocks: tuple[tuple[str, tuple[str, ...]], ...]
    checks: tuple[Check, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    estimates: Mapping[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """No check is an error."""
        return all(check.level != "error" for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """The versioned form that `--json` and `plan --batch` show."""
        return {
            "version": VERSION, "stage": self.stage, "ok": self.ok,
            "blocks": [{"title": title, "lines": list(lines)} for title, lines in self.blocks],
            "checks": [{"name": c.name, "level": c.level, "text": c.text} for c in self.checks],
            "reads": list(self.reads), "writes": list(self.writes), "estimates": dict(self.estimates),
        }


@dataclass(frozen=True)
class Report:
    """What a stage did; `headline` are lines for a person."""

    metrics: Mapping[str, float | int | str]
    headline: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None

    def to_json(self, stage: str) -> dict[str, Any]:
        """The one schema of result.json; raises ValueError when a metric is not a finite number or text."""
        for name, value in self.metrics.items():
            if isinstance(value, bool) or not isinstance(value, int | float | str):
                raise ValueError(f"metric {name} is a {type(value).__name__}, not a number or text")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"metric {name} is not finite")
        return {
            "version": VERSION, "stage": stage, "metrics": dict(self.metrics), "headline": list(self.headline),
            "digests": dict(self.digests), "versions": dict(self.versions), "seed": self.seed,
        }


class Stage(Protocol):
    """The shape of stages/<name>.py."""

    Config: type[Any]

    def plan(self, config: Any) -> Plan:
        """Judge without writing, without a connection, without a heavy library."""

    def apply(self, config: Any, run: Run) -> Report:
        """Do it; outputs appear whole or not at all."""


class DeviceStage(Protocol):
    """A stage whose plan can be made for a device that is not here."""

    def plan(self, config: Any, target: Any) -> Plan:
        """As Stage.plan, for `target`: a stages.lib.devices.Target."""


class Run:
    """Where one apply keeps what is not an output: its attempt folder, its work folder, its progress.

    `grace_s`: seconds from SIGTERM to SIGKILL, None where nobody said so.
    """

    def __init__(self, attempt: Path, work: Path, heartbeat: Path | None = None, grace_s: float | None = None,
                 clock: Callable[[], float] = time.time) -> None:
        self.attempt, self.work, self.grace_s = attempt, work, grace_s
        self._heartbeat, self._clock = heartbeat, clock
        self._metrics_fd: int | None = None
        attempt.mkdir(parents=True, exist_ok=True)
        work.mkdir(parents=True, exist_ok=True)

    @classmethod
    def of(cls, stage: str, out: Path | None, environ: Mapping[str, str]) -> Run:
        """The run that --out or the environment names; else a folder made under .albor/by-hand, said on stderr."""
        named = out or (Path(environ["ALBOR_ATTEMPT"]) if environ.get("ALBOR_ATTEMPT") else None)
        attempt = named or _by_hand(stage)
        work = Path(environ["ALBOR_WORK"]) if environ.get("ALBOR_WORK") else attempt / "work"
        heartbeat = Path(environ["ALBOR_HEARTBEAT"]) if environ.get("ALBOR_HEARTBEAT") else None
        grace = environ.get("ALBOR_GRACE_S")
        return cls(attempt, work, heartbeat, float(grace) if grace else None)

    def beat(self) -> None:
        """Say that the stage is alive, where a heartbeat is asked for."""
        if self._heartbeat is not None:
            self._heartbeat.touch()

    def progress(self, step: int, of: int, **metrics: float | str) -> None:
        """Append one whole line to metrics.jsonl by a single write; a number that is not finite is written as null."""
        shown = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()}
        line = json.dumps({"step": step, "of": of, "at": round(self._clock(), 3), **shown}) + "\n"
        if self._metrics_fd is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._metrics_fd = os.open(self.attempt / "metrics.jsonl", flags, 0o644)
        os.write(self._metrics_fd, line.encode())
        self.beat()

    def close(self) -> None:
        """Close the metrics file."""
        if self._metrics_fd is not None:
            os.close(self._metrics_fd)
            self._metrics_fd = None


def _by_hand(stage: str) -> Path:
    base = Path(".albor/by-hand") / f"{stage}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    folder, count = base, 1
    while True:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            count += 1
            folder = base.with_name(f"{base.name}.{count}")
            continue
        print(f"run folder: {folder}", file=sys.stderr)
        return folder
