"""Learning rate of every step as a closed form; knows numbers only, no optimizer and no clock."""

import math
from typing import Literal

Kind = Literal["cosine", "linear", "constant"]


def lr_at(step: int, *, peak: float, warmup_steps: int, max_steps: int, kind: Kind, min_lr_ratio: float) -> float:
    """The learning rate that step `step` (1-based, the last is `max_steps`) is made with.

    Linear warm-up reaches `peak` at `warmup_steps`; then cosine
    `low + (peak - low)/2 * (1 + cos(pi * (t - w) / (T - w)))` (Loshchilov & Hutter 2017, eq. 5), a straight line to
    `low`, or `peak` for ever. `low` is `peak * min_lr_ratio` and is met exactly at the last step.
    """
    if step <= warmup_steps:
        return peak * step / warmup_steps
    if kind == "constant":
        return peak
    low = peak * min_lr_ratio
    progress = min(1.0, (step - warmup_steps) / (max_steps - warmup_steps))
    share = 1.0 - progress if kind == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return low + (peak - low) * share
