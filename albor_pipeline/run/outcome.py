"""Outcome: one move of one step, to be journaled and then acted upon. Values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from albor_pipeline.model.events import Event
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.plan import Step
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Entry


@dataclass
class Work:
    """What a machine is doing for a step: an attempt, or a chain of convergence operations."""

    step: Step
    wanted: Fingerprint
    since_s: float
    number: int = 0


@dataclass(frozen=True)
class Outcome:
    """`what` is the journal's word (None: nothing is recorded); `act` runs after the record is durable.

    `word` counts the step as over; `work` puts it among the running ones; `again` puts it back to be judged anew,
    `waits` leaves it aside until an outcome with `again` comes for it.
    """

    key: Key
    what: str | None = None
    entry: Entry | None = None
    note: str = ""
    events: tuple[Event, ...] = ()
    act: Callable[[], None] | None = None
    work: Work | None = None
    word: str | None = None
    failed: bool = False
    again: bool = False
    waits: bool = False
