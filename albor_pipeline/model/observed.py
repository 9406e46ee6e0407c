"""Observed: everything that costs I/O, found once before a plan is made. Values only; run/observe.py fills them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from albor_pipeline.errors import Diagnostic
from albor_pipeline.model.attempt import Attempt
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Result


@dataclass(frozen=True)
class Tree:
    """A path or glob as found on a machine; `root` is None when nothing is there or when it could not be read, which `error` then tells.

    `stamp` changes with any stat of it.
    """

    root: str | None
    files: int = 0
    size_bytes: int = 0
    stamp: str = ""
    error: str = ""

    @property
    def found(self) -> bool:
        return self.root is not None


@dataclass(frozen=True)
class FileChange:
    """One file of a recorded output that is not as recorded; `what` is modified, deleted or added.

    `recorded` and `found` are the beginnings of digests, or words for what has none.
    """

    path: str
    what: str
    recorded: str | None = None
    found: str | None = None


@dataclass(frozen=True)
class Verified:
    """A recorded output compared with what is there now; `more` differences are counted and not named."""

    same: bool
    changes: tuple[FileChange, ...] = ()
    more: int = 0


@dataclass(frozen=True)
class Stored:
    """A result that a machine's store knows; `missing` says why it cannot be given back, empty when it can.

    `machine` is where it lies when that is not where it is wanted.
    """

    id: str
    result: Result
    missing: str = ""
    machine: str = ""


@dataclass(frozen=True)
class Observation:
    """What a probe found of an infrastructure resource; `error` when it could not tell, and then nothing is assumed."""

    exists: bool
    values: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class MachineView:
    """One machine: reachable or why not, its identity, and the attempts on it that this state goes on with.

    `is_new`: it was made for this very run, so that nothing on it is anybody's.
    """

    name: str
    error: str | None = None
    machine_id: str = ""
    boot_id: str = ""
    attempts: tuple[Attempt, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    is_new: bool = False

    @cached_property
    def by_resource(self) -> Mapping[str, tuple[Attempt, ...]]:
        """The attempts of each resource, newest first."""
        found: dict[str, list[Attempt]] = {}
        for attempt in sorted(self.attempts, key=lambda attempt: -attempt.number):
            found.setdefault(attempt.resource, []).append(attempt)
        return {name: tuple(attempts) for name, attempts in found.items()}


@dataclass(frozen=True)
class StageAnswer:
    """What `albor-stage plan` says of a stage task; `problems` are of the configuration alone, `refusals` of what the stage found."""

    problems: tuple[Diagnostic, ...] = ()
    warnings: tuple[Diagnostic, ...] = ()
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    estimates: Mapping[str, float] = field(default_factory=dict)
    refusals: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True)
class Observed:
    """All of it; a key that is absent was not looked at. `outputs` are those in force, `made` those of an attempt by its number,
    `stored` what the store knows, last in force last.

    `project_files` are the paths of completion checks and stage configs, as written, that exist in the project folder.
    """

    machines: Mapping[str, MachineView] = field(default_factory=dict)
    inputs: Mapping[tuple[str, str], Tree] = field(default_factory=dict)
    outputs: Mapping[tuple[Key, str], Verified] = field(default_factory=dict)
    made: Mapping[tuple[Key, int, str], Verified] = field(default_factory=dict)
    wanted: Mapping[Key, Mapping[str, str]] = field(default_factory=dict)
    infra: Mapping[Key, Observation] = field(default_factory=dict)
    completed: Mapping[Key, bool] = field(default_factory=dict)
    code: Mapping[Key, Mapping[str, str]] = field(default_factory=dict)
    configs: Mapping[Key, Mapping[str, str]] = field(default_factory=dict)
    python: Mapping[Key, Mapping[str, str]] = field(default_factory=dict)
    stages: Mapping[Key, StageAnswer] = field(default_factory=dict)
    project_files: Collection[str] | None = None
    stored: Mapping[Key, tuple[Stored, ...]] = field(default_factory=dict)

    def attempts_of(self, key: Key) -> tuple[Attempt, ...]:
        """The attempts of one resource on its machine, newest first."""
        view = self.machines.get(key.machine)
        return view.by_resource.get(key.resource, ()) if view is not None else ()
