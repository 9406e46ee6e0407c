"""How large a batch would be worth it, from the norms of small and large gradients; knows squared norms only."""

from __future__ import annotations

import math
from collections import deque
from typing import Any


class NoiseScale:
    """The simple noise scale tr(S) / |G|^2 (McCandlish et al. 2018, appendix A.1), in the unit of `small` and `big`.

    `small` and `big` are the sizes of a micro-batch and of the whole batch, in tokens or rows. Of one step
    (big |G_big|^2 - small |G_small|^2) / (big - small) estimates |G|^2 and
    (|G_small|^2 - |G_big|^2) / (1 / small - 1 / big) estimates tr(S), both without bias; each is averaged over the last
    `window` steps before one is divided by the other, for a mean of quotients would be biased.
    """

    def __init__(self, small: float, big: float, window: int = 100) -> None:
        self.small, self.big = small, big
        self._seen: deque[tuple[float, float]] = deque(maxlen=window)

    def see(self, small_squared: float, big_squared: float) -> None:
        """Takes in the squared norms of one step: of a micro-batch's mean gradient, and of the whole batch's.

        Both are means over their own tokens, before clipping. A mean over several micro-batches' squared norms is as
        good as one of them and less noisy. Where a batch is one micro-batch, and for what is not finite, nothing is learned.
        """
        if self.big <= self.small or not (math.isfinite(small_squared) and math.isfinite(big_squared)):
            return
        signal = (self.big * big_squared - self.small * small_squared) / (self.big - self.small)
        noise = (small_squared - big_squared) / (1 / self.small - 1 / self.big)
        self._seen.append((signal, noise))

    @property
    def value(self) -> float | None:
        """The noise scale; None without accumulation, before the first step, and where the noise hides the gradient."""
        signal, noise = (math.fsum(one[part] for one in self._seen) for part in (0, 1))
        return noise / signal if signal > 0 and noise > 0 else None

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, as JSON."""
        return {"seen": [list(one) for one in self._seen]}

    def restore(self, saved: dict[str, Any]) -> None:
        """Puts back what `state` gave."""
        self._seen.clear()
        self._seen.extend((float(signal), float(noise)) for signal, noise in saved["seen"])
