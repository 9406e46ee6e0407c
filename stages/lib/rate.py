"""Tokens a second that this process trains with; knows no clock, seconds are given to it."""

from __future__ import annotations


class TokenRate:
    """Counts only steps that this process made. It is not saved: a resumed run has a rate of its own (U-1)."""

    def __init__(self) -> None:
        self.tokens = self.steps = 0
        self.seconds = 0.0

    def see(self, tokens: int, seconds: float, *, made: bool = True) -> None:
        """One step: its tokens count only if its update was made, its time counts always."""
        self.seconds += seconds
        if made:
            self.tokens += tokens
            self.steps += 1

    @property
    def tokens_per_s(self) -> float:
        """Tokens learned from in a second of stepping; 0 before the first step."""
        return self.tokens / self.seconds if self.seconds > 0 else 0.0

    def seconds_left(self, steps: int) -> float | None:
        """How long `steps` more will take; None before a step was made."""
        return steps * self.seconds / self.steps if self.steps else None
