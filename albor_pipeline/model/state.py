"""State and Entry: what was last proven, per machine and resource. Plain values; reading and writing them is the state room's.

`in_force` is the last proven result; `current` is the attempt that is running or that failed. Both have a JSON form with
unknown keys kept, so that a newer version's state survives an older program.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.resource import Key


class Status(StrEnum):
    """The word shown by `status`."""

    PENDING = "pending"
    RUNNING = "running"
    INTERRUPTED = "interrupted"
    CONVERGED = "converged"
    FAILED = "failed"


class Origin(StrEnum):
    """How a result came to be in force."""

    MADE = "made"
    ADOPTED = "adopted"
    FOUND = "found"
    ACCEPTED = "accepted"
    RESTORED = "restored"


@dataclass(frozen=True)
class OutputProof:
    """One declared output as digested on the machine: root digest of the tree, its files and bytes; volatile ones have no digest."""

    root: str | None
    files: int
    size_bytes: int


@dataclass(frozen=True)
class Result:
    """A proven result: what it was made from, what came out, and when.

    `removal` is how a thing that is no task is taken away once nobody declares it: `operations` of the agent, `sudo`, `exclusive`,
    and `prevented` where its lifecycle forbids that.
    """

    fingerprint: Fingerprint
    outputs: Mapping[str, OutputProof]
    run: str
    at_utc: str
    seconds: float = 0.0
    attempt: int = 0
    origin: Origin = Origin.MADE
    observed: Mapping[str, str] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    removal: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Current:
    """The attempt that is under way or went wrong; `ended` is None while it is under way.

    `removal` is as of a result: noted before a thing is made, so that what a run made that was cut off is known as ours.
    """

    fingerprint: Fingerprint
    run: str
    attempt: int
    since_utc: str
    status: Status
    exit_class: str | None = None
    detail: str = ""
    log: str = ""
    ended_utc: str | None = None
    removal: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One row: the last proven result and the attempt after it; either may be absent."""

    key: Key
    kind: str
    in_force: Result | None = None
    current: Current | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        if self.current is not None:
            return self.current.status
        return Status.CONVERGED if self.in_force is not None else Status.PENDING

    @property
    def removal(self) -> Mapping[str, Any]:
        """How the thing is taken away: as it was recorded when it was proven, else as it was noted when it was begun."""
        if self.in_force is not None:
            return self.in_force.removal
        return self.current.removal if self.current is not None else {}


def lineage_label(pipeline: str) -> str:
    """What the lineages of a pipeline begin with: beside those of other pipelines a machine knows them by it."""
    return hashlib.sha256(pipeline.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class State:
    """All rows of one lineage; `serial` grows by one with every journal line; `machine_ids` bind a name to a machine."""

    lineage: str
    serial: int
    pipeline: str
    entries: Mapping[Key, Entry] = field(default_factory=dict)
    machine_ids: Mapping[str, str] = field(default_factory=dict)
    last_run: str | None = None
    last_run_utc: str | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
