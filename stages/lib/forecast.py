"""What validations say of the loss at the end of a run, by a law in the tokens read; knows no model and no file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

_FOR_A_LAW, _FOR_A_WARNING = 3, 4
_SMALL = 0.10
_EARLY = 0.5


@dataclass(frozen=True)
class Law:
    """L = a - b ln D: nats a token after D tokens."""

    a: float
    b: float

    def loss(self, tokens: float) -> float:
        """The loss that the law gives after `tokens`."""
        return self.a - self.b * math.log(tokens)


class Forecast:
    """Least squares over all validations, from the third on; `end_tokens` is what the run reads in all."""

    def __init__(self, end_tokens: int) -> None:
        self.end_tokens = end_tokens
        self.seen: list[tuple[int, float]] = []
        self.warned = False

    def see(self, tokens: int, loss: float) -> str | None:
        """Takes in the validation after `tokens` and gives a warning, once, when little more is to be had.

        Little is less than 10 % of the last measured perplexity, as the law forecasts it for the end of the run:
        1 - exp(forecast loss - last measured loss), with 4 validations at least. Past half of the tokens nothing is
        said: there the remaining gain of every run is small.
        """
        if tokens > 0 and math.isfinite(loss):
            self.seen.append((tokens, loss))
        gain = self.gain()
        early = tokens <= _EARLY * self.end_tokens
        if self.warned or gain is None or not early or len(self.seen) < _FOR_A_WARNING or gain >= _SMALL:
            return None
        self.warned = True
        end, now = self.at_end(), self.seen[-1][1]
        return (f"after {tokens / self.end_tokens:.0%} of the tokens the loss is {now:.3f} and is forecast to end at {end:.3f}, "
                f"a perplexity {gain:.1%} lower: what is missing is not time. More or other data, another rate or a larger "
                "model would change it")

    def law(self) -> Law | None:
        """The law through what was seen; None before three validations at two places."""
        if len(self.seen) < _FOR_A_LAW:
            return None
        count = len(self.seen)
        logs = [math.log(tokens) for tokens, _ in self.seen]
        middle, mean = math.fsum(logs) / count, math.fsum(loss for _, loss in self.seen) / count
        spread = math.fsum((x - middle) ** 2 for x in logs)
        if spread == 0:
            return None
        slope = math.fsum((x - middle) * (loss - mean) for x, (_, loss) in zip(logs, self.seen, strict=True)) / spread
        return Law(mean - slope * middle, -slope)

    def at_end(self) -> float | None:
        """The forecast loss at the end of the run."""
        law = self.law()
        return law.loss(self.end_tokens) if law is not None else None

    def gain(self) -> float | None:
        """How much lower the perplexity at the end is forecast than the last measured one, as a share of the latter."""
        end = self.at_end()
        return -math.expm1(min(end - self.seen[-1][1], 700.0)) if end is not None else None

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, as JSON."""
        return {"seen": [list(one) for one in self.seen], "warned": self.warned}

    def restore(self, saved: dict[str, Any]) -> None:
        """Puts back what `state` gave."""
        self.seen, self.warned = [(int(tokens), float(loss)) for tokens, loss in saved["seen"]], saved["warned"]
