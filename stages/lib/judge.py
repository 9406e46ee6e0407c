"""Which validation is the best so far, and when patience ends; knows losses and steps, no model and no file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


def due(step: int, interval: int) -> bool:
    """Whether a validation belongs after `step`: never before training, then at every multiple of `interval`."""
    return step > 0 and step % interval == 0


@dataclass(frozen=True)
class Verdict:
    """What one validation means: it is the best so far (its weights are to be kept), or training is to end."""

    best: bool
    stop: bool


class Judge:
    """The lowest loss, the first of equals; `patience` validations in a row that are not lower end training, 0 never does."""

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.best_loss: float | None = None
        self.best_step: int | None = None
        self.misses = 0

    def see(self, step: int, loss: float) -> Verdict:
        """Judges the validation after `step`; a loss that is not a number is a miss."""
        best = loss < (float("inf") if self.best_loss is None else self.best_loss)
        if best:
            self.best_loss, self.best_step, self.misses = loss, step, 0
        else:
            self.misses += 1
        return Verdict(best, self.ended)

    @property
    def ended(self) -> bool:
        """Whether patience is at its end."""
        return self.patience > 0 and self.misses >= self.patience

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, as JSON."""
        return {"best_loss": self.best_loss, "best_step": self.best_step, "misses": self.misses}

    def restore(self, saved: dict[str, Any]) -> None:
        """Puts back what `state` gave."""
        self.best_loss, self.best_step, self.misses = saved["best_loss"], saved["best_step"], saved["misses"]
