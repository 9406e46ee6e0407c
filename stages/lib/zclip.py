"""To which norm a gradient is scaled down, learned from the norms before it; knows norms only, no tensor."""

from __future__ import annotations

import math
from typing import Any

_TINY = 1e-6


class ZClip:
    """ZClip with reciprocal scaling (Kumar et al. 2025, arXiv 2504.02507).

    Mean m and variance v of the norm are those of the first `warmup` steps, then running ones:
    m = alpha m + (1 - alpha) g, v = alpha v + (1 - alpha) (g - m)^2 with the new m. A norm g with
    z = (g - m) / sqrt(v) over `threshold` is an outlier: it is scaled down to m + sqrt(v) threshold^2 / z, lower the
    farther out it lies, and what enters mean and variance is that norm and not g. Beyond the paper: `warmup` outliers
    in a row are no outliers but a new level, and mean and variance begin anew from them (else a lasting jump of more
    than threshold^2 deviations would be held down for ever). `ceiling` is a fixed limit beside it, also in the warm-up.
    """

    def __init__(self, alpha: float = 0.97, threshold: float = 2.5, warmup: int = 25, ceiling: float | None = None) -> None:
        self.alpha, self.threshold, self.warmup, self.ceiling = alpha, threshold, warmup, ceiling
        self.mean: float | None = None
        self.variance = 0.0
        self.outliers = 0
        self._norms: list[float] = []

    def limit(self, norm: float) -> float | None:
        """The norm that a gradient of `norm` may have, None for no limit; a norm that is not finite teaches nothing."""
        if not math.isfinite(norm):
            return self.ceiling
        if self.mean is None:
            self._begin_with(norm)
            return self.ceiling
        z = (norm - self.mean) / (math.sqrt(self.variance) + _TINY)
        if z <= self.threshold:
            self._norms = []
            self._learn(self.mean, norm)
            return self.ceiling
        self.outliers += 1
        allowed = self.mean + math.sqrt(self.variance) * self.threshold**2 / z
        self._learn(self.mean, allowed)
        self._begin_with(norm)
        return allowed if self.ceiling is None else min(allowed, self.ceiling)

    def _learn(self, mean: float, norm: float) -> None:
        self.mean = self.alpha * mean + (1 - self.alpha) * norm
        self.variance = self.alpha * self.variance + (1 - self.alpha) * (norm - self.mean) ** 2

    def _begin_with(self, norm: float) -> None:
        """Collects norms of a level that is not known yet, and takes mean and variance from them when there are enough."""
        self._norms.append(norm)
        if len(self._norms) >= self.warmup:
            self.mean = math.fsum(self._norms) / len(self._norms)
            self.variance = math.fsum((one - self.mean) ** 2 for one in self._norms) / len(self._norms)
            self._norms = []

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, as JSON."""
        return {"mean": self.mean, "variance": self.variance, "outliers": self.outliers, "norms": list(self._norms)}

    def restore(self, saved: dict[str, Any]) -> None:
        """Puts back what `state` gave."""
        self.mean, self.variance, self.outliers = saved["mean"], saved["variance"], saved["outliers"]
        self._norms = list(saved["norms"])
