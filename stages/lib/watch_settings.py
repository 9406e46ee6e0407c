"""What a training run is asked to watch, and what it does then; reads no file and imports no torch.

With nothing asked for, a run does as without it: a loss that is not a number stops it, and nothing else is acted upon.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from stages.lib.alerts import Action, condition
from stages.lib.config import Config, HumanFloat, HumanInt

Count = Annotated[HumanInt, Field(ge=1)]
Share = Annotated[HumanFloat, Field(gt=0, lt=1)]


def _switch(value: Any) -> Any:
    """`true` is a block with its defaults, `false` is none."""
    if isinstance(value, bool):
        return {} if value else None
    return value


Switch = BeforeValidator(_switch)


class ZClipConfig(Config):
    """Gradients are scaled down by ZClip, beside `grad_clip`; see stages/lib/zclip.py."""

    alpha: Share = 0.97
    threshold: Annotated[HumanFloat, Field(gt=0)] = 2.5
    warmup: Annotated[HumanInt, Field(ge=2)] = 25


class SpikeConfig(Config):
    """Broken steps are skipped and spikes gone back from; see stages/lib/spikes.py."""

    factor: Annotated[HumanFloat, Field(gt=1)] = 3.0
    max_rollbacks: Annotated[HumanInt, Field(ge=0)] = 3
    max_broken: Count = 3
    smoothing: Share = 0.95


class DeadConfig(Config):
    """Every `interval` steps gradients and weights are looked at by parameter; see stages/lib/dead.py."""

    interval: Count = 100
    looks: Count = 3
    share: Share = 1e-6


class WatchConfig(Config):
    """`patience: 0` never ends a run early; `zclip`, `spikes` and `dead` are off unless given, `true` is their defaults."""

    patience: Annotated[HumanInt, Field(ge=0)] = 0
    noise_scale: bool = False
    zclip: Annotated[ZClipConfig | None, Switch] = None
    spikes: Annotated[SpikeConfig | None, Switch] = None
    dead: Annotated[DeadConfig | None, Switch] = None


def _readable(text: str) -> str:
    condition(text)
    return text


class AlertConfig(Config):
    """A condition over a run's figures, what is done when it holds, and what is said."""

    condition: Annotated[str, AfterValidator(_readable)]
    action: Action
    message: str | None = None


class MonitoringConfig(Config):
    """Alerts, each told once while it holds."""

    alerts: tuple[AlertConfig, ...] = ()
