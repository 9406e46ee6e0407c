"""Attempt: one detached run of a task on a machine, as the agent reports it. Knows no wire and no folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from albor_pipeline.model.state import OutputProof


class Liveness(StrEnum):
    """What is known of an attempt's processes."""

    ALIVE = "alive"
    UNSUPERVISED = "unsupervised"
    ENDED = "ended"
    DEAD = "dead"
    UNKNOWN = "unknown"


class ExitClass(StrEnum):
    """How an attempt ended."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    KILLED = "killed"
    CANCELLED = "cancelled"
    OOM = "oom"
    LOST = "lost"
    GPU = "gpu"
    HANG = "hang"


@dataclass(frozen=True)
class Exit:
    """The proven end: class, exit code or signal, one sentence of what was seen, and the outputs that were digested."""

    exit_class: ExitClass
    code: int | None
    detail: str
    seconds: float
    at_utc: str
    outputs: Mapping[str, OutputProof] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.exit_class is ExitClass.OK


@dataclass(frozen=True)
class Attempt:
    """One attempt folder; `fingerprint` is the hex digest that named it; `exit` is None until there is a proven end."""

    resource: str
    number: int
    fingerprint: str
    folder: str
    lineage: str
    run: str
    liveness: Liveness
    started_utc: str
    acked: bool = False
    same_boot: bool = True
    exit: Exit | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
