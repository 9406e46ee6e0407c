"""Limits: how far a run may go, by policy, by the command line and by the user's Ctrl-C. Values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from albor_pipeline.model.manifest import Policy


class Leave(Enum):
    """What the user asked of a run that is under way."""

    NO = 0
    STOP = 1
    CANCEL = 2


@dataclass(frozen=True)
class Limits:
    """How far the loop may go; `leave` is asked in every turn, `sure` lets it overwrite what it finds."""

    policy: Policy
    keep_going: bool = False
    max_parallel: int | None = None
    leave: Callable[[], Leave] = lambda: Leave.NO
    sure: bool = False

    @property
    def stop_on_first(self) -> bool:
        return self.policy.stop_on_first and not self.keep_going
