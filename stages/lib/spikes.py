"""What a training loop does about a step whose loss or gradient is broken; decides, and knows no tensor and no file.

The loop asks between a step's gradient and its update. Rows are counted on, whatever is decided: step `s` reads what lies
at position `s + data_offset`. Going back from step `s` to the weights after step `c` raises `data_offset` by `s - c`, so
that the step made next, `c + 1`, reads the rows after those of `s`: the rows between are dropped, and no row is read in
its bad place again. Rates go by the step and not by the position.

Only checkpoints at multiples of the interval are gone back to, and only those after which a sound step was made: what a
signal makes a run save in between changes nothing. After going back, everything is as in the checkpoint except this
state. A run that is killed then goes on from a checkpoint of before, meets the same step and decides the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Go:
    """The update is made; `warning` is what may be wrong all the same."""

    warning: str | None = None


@dataclass(frozen=True)
class Skip:
    """This step makes no update; its rows count as read."""

    reason: str


@dataclass(frozen=True)
class RollBack:
    """Weights, optimizer and the rest go back to those after `to_step`; rows are read from `data_offset` on."""

    to_step: int
    data_offset: int
    reason: str


@dataclass(frozen=True)
class Stop:
    """Training ends with an error, and nothing of this step is saved."""

    reason: str


Decision = Go | Skip | RollBack | Stop
SAME = 5


class SpikeGuard:
    """`factor` None is a loop without help: what is not a number stops it.

    Else a loss or norm that is not finite is skipped, and the `max_broken`-th in a row goes back; a loss over `factor`
    times the running mean of the losses goes back at once; the one after `max_rollbacks` ends the run. `interval` is
    that of checkpoints, `smoothing` the weight of the past in the running mean. A loss that stays the same to the bit for SAME steps
    is warned of, once: weights that no step changes, or rows that are none.
    """

    def __init__(
        self, interval: int, factor: float | None = None, max_rollbacks: int = 3, max_broken: int = 3, smoothing: float = 0.95,
    ) -> None:
        self.interval, self.factor, self.smoothing = interval, factor, smoothing
        self.max_rollbacks, self.max_broken = max_rollbacks, max_broken
        self.mean_loss: float | None = None
        self.broken = self.skipped = self.rollbacks = self.data_offset = self.good_step = 0
        self.last_loss: float | None = None
        self.same = 1

    def decide(self, step: int, loss: float, norm: float) -> Decision:
        """What becomes of `step`, whose loss and gradient norm (before clipping) are known and whose update is not made yet."""
        if loss == 0.0:
            return Stop(f"the loss of step {step} is exactly 0, which no text gives; training stopped")
        if not math.isfinite(loss):
            return self._broken(step, f"the loss of step {step} is {loss}")
        if not math.isfinite(norm):
            return self._broken(step, f"the gradient of step {step} is {norm}")
        if self.factor is not None and self.mean_loss is not None and loss > self.factor * self.mean_loss:
            return self._back(step, f"the loss of step {step} is {loss:.4g}, over {self.factor:g} times the {self.mean_loss:.4g} before it")
        self.broken = 0
        self.mean_loss = loss if self.mean_loss is None else self.smoothing * self.mean_loss + (1 - self.smoothing) * loss
        self.good_step = max(self.good_step, (step - 1) // self.interval * self.interval)
        self.same = self.same + 1 if loss == self.last_loss else 1
        self.last_loss = loss
        return Go(f"the loss of the {SAME} steps to {step} is {loss:.6g}, the same to the last bit: either no step changes the weights or "
                  "all read the same rows" if self.same == SAME else None)

    def _broken(self, step: int, what: str) -> Decision:
        if self.factor is None:
            return Stop(f"{what}; training stopped and saved nothing of it")
        self.broken += 1
        if self.broken >= self.max_broken:
            return self._back(step, f"{what}, and {self.broken} steps in a row were broken")
        self.skipped += 1
        return Skip(f"{what}; the step is skipped")

    def _back(self, step: int, what: str) -> Decision:
        if self.rollbacks >= self.max_rollbacks:
            return Stop(f"{what}, after going back {self.rollbacks} times; training stopped. A lower lr, a longer warm-up or other data "
                        f"may get over it; the checkpoint after step {self.good_step} is sound")
        self.rollbacks += 1
        self.broken = 0
        self.data_offset += step - self.good_step
        return RollBack(self.good_step, self.data_offset, f"{what}; going back to the weights after step {self.good_step}, and on with "
                        f"the rows after it ({self.rollbacks} of {self.max_rollbacks})")

    def went_back(self, to_step: int) -> None:
        """To weights older than those decided on, whose checkpoint was harmed: rows go on after the bad ones all the same."""
        self.data_offset += self.good_step - to_step
        self.good_step = to_step

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, as JSON."""
        return {
            "mean_loss": self.mean_loss, "broken": self.broken, "skipped": self.skipped, "rollbacks": self.rollbacks,
            "data_offset": self.data_offset, "good_step": self.good_step, "last_loss": self.last_loss, "same": self.same,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Puts back what `state` gave."""
        self.mean_loss, self.broken, self.skipped = saved["mean_loss"], saved["broken"], saved["skipped"]
        self.rollbacks, self.data_offset, self.good_step = saved["rollbacks"], saved["data_offset"], saved["good_step"]
        self.last_loss, self.same = saved.get("last_loss"), saved.get("same", 1)  # checkpoints of before did not know them
