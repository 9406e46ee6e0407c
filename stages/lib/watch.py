"""All that watches one training run, as one thing to save and restore; decides nothing itself and knows no tensor."""

from __future__ import annotations

from typing import Any, Protocol

from stages.lib.alerts import Alerts, Rule, condition
from stages.lib.dead import DeadWatch
from stages.lib.forecast import Forecast
from stages.lib.judge import Judge
from stages.lib.noise import NoiseScale
from stages.lib.settings import PretrainConfig
from stages.lib.spikes import SpikeGuard
from stages.lib.stage import Check
from stages.lib.zclip import ZClip


class Part(Protocol):
    """What every watcher has."""

    def state(self) -> dict[str, Any]:
        """What a resumed run needs, as JSON."""

    def restore(self, saved: dict[str, Any]) -> None:
        """Puts back what `state` gave."""


class Watch:
    """The watchers that a configuration asks for; those not asked for are None. The token rate is not among them."""

    def __init__(self, config: PretrainConfig) -> None:
        training, watch, row = config.training, config.watch, config.data.seq_len
        spikes, zclip, dead = watch.spikes, watch.zclip, watch.dead
        self.guard = SpikeGuard(training.checkpoint_interval, **(spikes.model_dump() if spikes else {}))
        self.judge = Judge(watch.patience)
        self.forecast = Forecast(config.tokens)
        self.alerts = Alerts([Rule(condition(one.condition), one.action, one.message) for one in config.monitoring.alerts])
        self.zclip = ZClip(**zclip.model_dump(), ceiling=training.grad_clip) if zclip else None
        self.noise = NoiseScale(training.batch_size * row, training.rows_per_step * row) if watch.noise_scale else None
        self.dead = DeadWatch(dead.looks, dead.share) if dead else None
        self._before_training = self.state()

    def state(self) -> dict[str, Any]:
        """What a resumed run needs of every watcher, as JSON, by its name."""
        return {name: part.state() for name, part in self._parts().items()}

    def restore(self, saved: dict[str, Any]) -> None:
        """Puts back what `state` gave; a watcher that was not there then begins anew."""
        for name, part in self._parts().items():
            part.restore(saved.get(name, self._before_training[name]))

    def go_back(self, saved: dict[str, Any], to_step: int) -> None:
        """After a RollBack: all as `saved` in the checkpoint gone back to ({} is before training), but the guard, which must remember."""
        self.guard.went_back(to_step)
        guard = self.guard.state()
        self.restore(saved)
        self.guard.restore(guard)

    def _parts(self) -> dict[str, Part]:
        parts: dict[str, Part | None] = {"guard": self.guard, "judge": self.judge, "forecast": self.forecast, "alerts": self.alerts,
                                         "zclip": self.zclip, "noise": self.noise, "dead": self.dead}
        return {name: part for name, part in parts.items() if part is not None}


def watch_checks(config: PretrainConfig) -> list[Check]:
    """What a plan says of it: two checkpoints for going back, accumulation for the noise scale."""
    training, watch = config.training, config.watch
    checks = []
    if watch.spikes is not None and training.keep < 2:
        checks.append(Check("spikes", "error", "going back from a spike needs the checkpoint before the newest too: keep 2"))
    if watch.noise_scale and training.accumulation == 1:
        checks.append(Check("noise-scale", "warning", "the noise scale compares micro-batches with the whole batch; with accumulation 1 "
                            "they are the same, and it is not known"))
    if watch.patience and training.eval_interval > training.max_steps // (watch.patience + 1):
        checks.append(Check("patience", "warning", f"patience {watch.patience} cannot end this run: a validation every "
                            f"{training.eval_interval} of {training.max_steps} steps is too few"))
    return checks
