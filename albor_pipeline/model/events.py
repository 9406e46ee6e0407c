"""What happens during a run, as values that a UI may show. Knows no text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import OutputProof


@dataclass(frozen=True)
class RunStarted:
    """A run begins: what it may do at most."""

    run: str
    folder: str
    to_do: int
    unchanged: int
    machines: int


@dataclass(frozen=True)
class StepEvent:
    """A step reached a state; `word` is what is shown (running, done, created, FAILED, ...)."""

    key: Key
    word: str
    at_utc: str
    note: str = ""
    seconds: float | None = None
    outputs: Mapping[str, OutputProof] = field(default_factory=dict)
    tail: tuple[str, ...] = ()
    log: str = ""


@dataclass(frozen=True)
class Moved:
    """A tree that is brought from one machine to another: the files and bytes that had to be sent for it, and the time that took.

    `way`: direct (from machine to machine) or relayed (through this process), then with `why` when the other was tried.
    """

    path: str
    source: str
    target: str
    files: int
    size_bytes: int
    seconds: float
    way: str = "relayed"
    why: str = ""


@dataclass(frozen=True)
class MoveEvent:
    """Something that a step needs begins to be moved, or was (`word`: moving, moved)."""

    key: Key
    word: str
    at_utc: str
    moved: Moved


@dataclass(frozen=True)
class ProgressEvent:
    """How far a step is: the last line of a running task's metrics file, or of a move files, moved_bytes, of_bytes and bytes_per_s."""

    key: Key
    progress: Mapping[str, Any]


@dataclass(frozen=True)
class LogEvent:
    """What a task had printed while nobody watched it: its last lines, and how many came before them (`uncounted`: or more).

    `since_s`: for how long nobody did; None where that is not known, then these are the last lines of all.
    """

    key: Key
    at_utc: str
    lines: tuple[str, ...]
    more: int = 0
    uncounted: bool = False
    since_s: float | None = None


@dataclass(frozen=True)
class NoteEvent:
    """A sentence for the user that belongs to no step."""

    text: str


@dataclass(frozen=True)
class RunReport:
    """How a run ended; `counts` by word, `summaries` what the tasks said of themselves (headline), `lost` machines that do not answer."""

    run: str
    folder: str
    counts: Mapping[str, int]
    interrupted: bool = False
    still_running: tuple[Key, ...] = ()
    broken: str = ""
    outputs: tuple[tuple[Key, str, OutputProof], ...] = ()
    summaries: tuple[tuple[Key, Mapping[str, Any]], ...] = ()
    stopped: bool = False
    stale: tuple[str, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    checks: Mapping[str, str] = field(default_factory=dict)
    lost: tuple[str, ...] = ()
    moves: tuple[Moved, ...] = ()

    @property
    def failed(self) -> int:
        return self.counts.get("failed", 0)

    @property
    def succeeded(self) -> bool:
        """Everything that was wanted is converged."""
        held = self.counts.get("held") or self.counts.get("unreachable")
        return not (self.failed or self.broken or self.interrupted or self.stale or held)


Event = RunStarted | StepEvent | MoveEvent | ProgressEvent | LogEvent | NoteEvent


class Reporter(Protocol):
    """Takes events; must not block and must not raise."""

    def __call__(self, event: Event) -> None: ...
