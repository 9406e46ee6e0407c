"""Plan, Step, Action, Reason: what will happen and why. Values only; decide() makes them, the executor follows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from albor_pipeline.errors import Diagnostic
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.resource import Key


class Action(Enum):
    """What may be done to a resource: the word shown, and the glyph before it."""

    CREATE = ("create", "+")
    RUN = ("run", "+")
    RERUN = ("re-run", "~")
    UPDATE = ("update", "~")
    RESUME = ("resume", "!")
    RETRY = ("retry", "!")
    RESTORE = ("restore", "~")
    FETCH = ("fetch", "~")
    ADOPT = ("adopt", "+")
    ATTACH = ("attach", "!")
    CONFLICT = ("conflict", "x")
    HOLD = ("hold", "x")
    FORGET = ("forget", "-")
    DESTROY = ("destroy", "-")
    MAY_RUN = ("may run", "?")
    LEAVE = ("drifted", "!")
    UNKNOWN = ("unknown", "?")
    SKIP = ("unchanged", " ")

    def __init__(self, word: str, glyph: str) -> None:
        self.word = word
        self.glyph = glyph

    @property
    def executes(self) -> bool:
        """True when this starts the command or the convergence."""
        return self in (Action.CREATE, Action.RUN, Action.RERUN, Action.UPDATE, Action.RESUME, Action.RETRY)


OVERWRITES = ("output-modified", "output-unexplained")


@dataclass(frozen=True)
class Reason:
    """Why: a stable code and the sentence that is shown."""

    code: str
    text: str


@dataclass(frozen=True)
class Move:
    """An input that lies on another machine (`source`) and not yet where it is read; root and size are None while nobody knows them."""

    path: str
    source: str
    source_path: str
    root: str | None = None
    size_bytes: int | None = None


@dataclass(frozen=True)
class Step:
    """One node of the plan: the action shown, the actions that apply may still pick from, in order, and why.

    `loses`: bytes of a thing that is no task would be replaced, and nothing of ours wrote them.
    """

    key: Key
    kind: str
    action: Action
    allowed: tuple[Action, ...]
    reason: Reason
    after: tuple[Key, ...] = ()
    fingerprint: Fingerprint | None = None
    seconds: float | None = None
    disk_bytes: float | None = None
    notes: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()
    loses: bool = False

    @property
    def changes(self) -> bool:
        return self.action is not Action.SKIP

    @property
    def overwrites(self) -> bool:
        """True when bytes that nothing of ours explains would be replaced; such a step is asked about first."""
        return self.action is Action.DESTROY or self.loses or (self.action is not Action.LEAVE and self.reason.code in OVERWRITES)


@dataclass(frozen=True)
class Plan:
    """Ordered steps (Kahn, name as tie-break) and what was found on the way; the steps alone drive apply."""

    pipeline: str
    manifest: str
    steps: tuple[Step, ...]
    machines: tuple[str, ...]
    last_run: str | None = None
    last_run_utc: str | None = None
    unreachable: Mapping[str, str] = field(default_factory=dict)
    longest_chain: tuple[Key, ...] = ()
    longest_chain_s: float | None = None
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def changes(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.changes)
