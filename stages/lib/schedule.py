"""Learning rate of every step as a closed form; knows numbers only, no optimizer and no clock."""

import math
from typing import Literal

Kind = Literal["cosine", "linear", "constant", "wsd"]
DecayShape = Literal["cosine", "linear"]
WSD_WARMUP, WSD_DECAY = 0.05, 0.2


def lr_at(
    step: int, *, peak: float, warmup_steps: int, max_steps: int, kind: Kind, min_lr_ratio: float,
    decay_ratio: float = WSD_DECAY, decay_shape: DecayShape = "cosine",
) -> float:
    """The learning rate that step `step` (1-based, the last is `max_steps`) is made with.

    Linear warm-up reaches `peak` at `warmup_steps`; then cosine
    `low + (peak - low)/2 * (1 + cos(pi * (t - w) / (T - w)))` (Loshchilov & Hutter 2017, eq. 5), a straight line to
    `low`, or `peak` for ever. wsd (Hu et al. 2024, MiniCPM, section 4) stays at `peak` and falls, as a cosine or a line,
    over the last `decay_ratio` of the steps. `low` is `peak * min_lr_ratio` and is met exactly at the last step.
    """
    if step <= warmup_steps:
        return peak * step / warmup_steps
    if kind == "constant":
        return peak
    start = warmup_steps if kind != "wsd" else max(warmup_steps, decay_start(max_steps, decay_ratio))
    if step <= start:
        return peak
    low = peak * min_lr_ratio
    progress = min(1.0, (step - start) / (max_steps - start))
    straight = kind == "linear" or (kind == "wsd" and decay_shape == "linear")
    share = 1.0 - progress if straight else 0.5 * (1.0 + math.cos(math.pi * progress))
    return low + (peak - low) * share


def decay_start(max_steps: int, decay_ratio: float) -> int:
    """The last step of wsd that is made with the peak: `decay_ratio` of all steps come after it, at least one."""
    return max_steps - max(1, round(decay_ratio * max_steps))
