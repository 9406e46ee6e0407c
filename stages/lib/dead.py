"""Which weights get no gradient and which layers do not move; knows names and norms, no tensor."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping
from typing import Any

_LAYER = re.compile(r"(.*?\.[0-9]+)\..*")


class DeadWatch:
    """Looks at norms by parameter name now and then; what was found `looks` times in a row is told, once until it ends.

    A gradient is dead when its norm is exactly 0 or under `share` of the median norm. A layer (all parameters up to a
    number in their names, `layers.3`; else the parameter alone) does not move when no norm of its weights differs from
    that of the look before; norms should be of float64, or a small step may hide in the rounding.
    """

    def __init__(self, looks: int = 3, share: float = 1e-6) -> None:
        self.looks, self.share = looks, share
        self._silent: dict[str, int] = {}
        self._still: dict[str, int] = {}
        self._norms: dict[str, float] = {}

    def see(self, step: int, gradients: Mapping[str, float], weights: Mapping[str, float]) -> list[str]:
        """Takes in the norms of all gradients (before clipping) and all weights after `step`; gives what is new to tell.

        A step with a norm that is not finite is not looked at, nor should one be whose update was not made.
        """
        if not all(map(math.isfinite, (*gradients.values(), *weights.values()))):
            return []
        middle = statistics.median(gradients.values()) if gradients else 0.0
        quiet = {name for name, norm in gradients.items() if norm == 0.0 or norm < self.share * middle}
        still = self._unmoved(weights)
        self._norms = dict(weights)
        told = [f"{name} has a gradient of {gradients[name]:.3g}, beside a median of {middle:.3g}: at each of {self.looks} looks up to "
                f"step {step}" for name in self._counted(self._silent, quiet)]
        told += [f"{layer} has not moved in {self.looks} looks up to step {step}" for layer in self._counted(self._still, still)]
        return told

    def _unmoved(self, weights: Mapping[str, float]) -> set[str]:
        layers: dict[str, bool] = {}
        for name, norm in weights.items():
            layer = layer_of(name)
            layers[layer] = layers.get(layer, True) and self._norms.get(name) == norm
        return {layer for layer, same in layers.items() if same}

    def _counted(self, counts: dict[str, int], found: set[str]) -> list[str]:
        """Counts one more look; names those that have just been found often enough."""
        for name in [name for name in counts if name not in found]:
            del counts[name]
        for name in sorted(found):
            counts[name] = min(counts.get(name, 0) + 1, self.looks + 1)
        return [name for name in sorted(found) if counts[name] == self.looks]

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, as JSON."""
        return {"silent": dict(self._silent), "still": dict(self._still), "norms": dict(self._norms)}

    def restore(self, saved: dict[str, Any]) -> None:
        """Puts back what `state` gave."""
        self._silent, self._still, self._norms = dict(saved["silent"]), dict(saved["still"]), dict(saved["norms"])


def layer_of(name: str) -> str:
    """`model.layers.3` of `model.layers.3.mlp.up_proj.weight`; the parameter's own name where it has no number."""
    found = _LAYER.fullmatch(name)
    return found[1] if found else name
