"""What watches a run as a whole: settings, what it says of a plan, and that saving and going on changes nothing."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
from support_model import SHAPE

from stages.lib.alerts import FIGURES, Alerts, Rule, condition
from stages.lib.config import Config
from stages.lib.dead import DeadWatch
from stages.lib.files import canonical_json
from stages.lib.forecast import Forecast
from stages.lib.judge import Judge
from stages.lib.load import load_mapping
from stages.lib.noise import NoiseScale
from stages.lib.problems import BadConfig
from stages.lib.settings import PretrainConfig
from stages.lib.spikes import RollBack, SpikeGuard, Stop
from stages.lib.watch import Part, Watch, watch_checks
from stages.lib.watch_settings import MonitoringConfig, WatchConfig
from stages.lib.zclip import ZClip


class _Training(Config):
    watch: WatchConfig = WatchConfig()


ALL = {"patience": 3, "noise_scale": True, "zclip": True, "spikes": {"factor": 2.0}, "dead": {"interval": 10}}


def asked(**values: Any) -> WatchConfig:
    return load_mapping(_Training, "pretrain", {"watch": values}).watch


def config(**training: Any) -> PretrainConfig:
    return PretrainConfig.model_validate({
        "model": SHAPE, "data": {"train": "a", "val": "b", "tokenizer": "c", "seq_len": 16}, "optimizer": {"lr": 0.01}, "out": "d",
        "training": {"max_steps": 100, "batch_size": 4, "accumulation": 2, "eval_interval": 10, "checkpoint_interval": 10, **training}})


def watched(one: PretrainConfig | None = None, monitoring: MonitoringConfig | None = None, **values: Any) -> PretrainConfig:
    """`one`, or the plain configuration, with these watchers."""
    return (one or config()).model_copy(update={"watch": asked(**values), "monitoring": monitoring or MonitoringConfig()})


def _figures(draw: random.Random) -> dict[str, float | None]:
    return {**dict.fromkeys(FIGURES), "loss": draw.uniform(0, 10)}


def _dead(part: Any, draw: random.Random, step: int) -> object:
    gradients = {name: draw.choice((0.0, 0.0, 1.0)) for name in ("a", "b")}
    return part.see(step, gradients, {"layers.0.a": draw.choice((1.0, 1.0, 2.0)), "b": float(step)})


def _noise(part: Any, draw: random.Random) -> object:
    part.see(draw.uniform(2, 9), draw.uniform(1, 3))
    return part.value


PARTS: dict[str, tuple[Callable[[], Part], Callable[[Any, random.Random, int], object]]] = {
    "judge": (lambda: Judge(4), lambda part, draw, step: part.see(step, draw.uniform(4, 6))),
    "forecast": (lambda: Forecast(10_000), lambda part, draw, step: (part.see(step, draw.uniform(4, 5)), part.at_end())),
    "zclip": (lambda: ZClip(warmup=7), lambda part, draw, step: part.limit(30.0 if step % 9 == 0 else draw.choice((1.0, 1.1, 1.2)))),
    "guard": (lambda: SpikeGuard(5, factor=3.0, max_rollbacks=10),
              lambda part, draw, step: part.decide(step, draw.choice((4.0, 3.0, 5.0, math.nan, 99.0)), 1.0)),
    "noise": (lambda: NoiseScale(8, 64, window=9), lambda part, draw, _step: _noise(part, draw)),
    "dead": (lambda: DeadWatch(looks=2), _dead),
    "alerts": (lambda: Alerts([Rule(condition("loss > 5"), "warn")]), lambda part, draw, _step: part.see(_figures(draw))),
}


@pytest.mark.parametrize("name", PARTS)
def test_whatever_watches_goes_on_from_its_saved_state_as_if_never_stopped(name: str) -> None:
    make, see = PARTS[name]
    whole, draw = make(), random.Random(1)
    wanted = [see(whole, draw, step) for step in range(1, 81)]
    assert len(set(map(str, wanted))) > 1
    for cut in (0, 1, 6, 13, 40, 79):
        part, draw = make(), random.Random(1)
        seen = [see(part, draw, step) for step in range(1, cut + 1)]
        resumed = make()
        resumed.restore(json.loads(canonical_json(part.state())))
        seen += [see(resumed, draw, step) for step in range(cut + 1, 81)]
        assert seen == wanted and resumed.state() == whole.state()


def test_with_nothing_asked_for_a_run_is_watched_as_before() -> None:
    watch = Watch(config())
    assert (watch.zclip, watch.noise, watch.dead) == (None, None, None)
    assert not watch.judge.see(10, 5.0).stop and not any(watch.judge.see(step, 6.0).stop for step in range(20, 900, 10))
    assert isinstance(watch.guard.decide(1, math.nan, 1.0), Stop)
    assert watch.alerts.see({}) == []


def test_what_is_asked_for_reaches_what_watches() -> None:
    monitoring = MonitoringConfig.model_validate({"alerts": [{"condition": "loss > 10", "action": "stop"}]})
    watch = Watch(watched(config(grad_clip=0.5), monitoring, **ALL))
    assert watch.zclip is not None and (watch.zclip.threshold, watch.zclip.ceiling) == (2.5, 0.5)
    assert watch.noise is not None and (watch.noise.small, watch.noise.big) == (64, 128)
    assert watch.dead is not None and watch.dead.looks == 3
    assert (watch.guard.factor, watch.guard.interval, watch.judge.patience, watch.forecast.end_tokens) == (2.0, 10, 3, 12_800)
    assert watch.alerts.see({"loss": 11.0})[0].action == "stop"


def test_true_is_a_block_with_its_defaults_and_false_is_none() -> None:
    assert asked(spikes=True) == asked(spikes={}) and asked(spikes=False) == asked()
    assert asked(spikes=True).spikes is not None and asked(spikes=True).spikes.factor == 3.0  # type: ignore[union-attr]


@pytest.mark.parametrize(("values", "said"), [
    ({"patince": 3}, "has no key `patince`"), ({"zclip": {"alhpa": 0.9}}, "`watch.zclip` has no key `alhpa`"),
    ({"zclip": {"alpha": 1}}, "`watch.zclip.alpha`: it should be less than 1"), ({"spikes": {"factor": 1}}, "greater than 1"),
    ({"patience": -1}, "greater than or equal to 0"), ({"dead": {"share": 0}}, "greater than 0"),
])
def test_a_key_or_number_that_means_nothing_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(BadConfig) as refusal:
        asked(**values)
    assert said in refusal.value.problems[0].text


def test_going_back_takes_all_from_the_checkpoint_but_the_memory_of_having_gone_back() -> None:
    watch = Watch(watched(**ALL))
    at_start = watch.state()
    for step in range(1, 14):
        watch.guard.decide(step, 4.0, 1.0)
        if step == 10:
            watch.judge.see(step, 5.0)
            saved = json.loads(canonical_json(watch.state()))
    watch.judge.see(13, 4.0)
    found = watch.guard.decide(14, 100.0, 1.0)
    assert isinstance(found, RollBack) and found.to_step == 10
    watch.go_back(saved, 10)
    assert (watch.judge.best_loss, watch.guard.rollbacks, watch.guard.data_offset) == (5.0, 1, 4)
    watch.go_back({}, 0)
    assert (watch.guard.rollbacks, watch.guard.data_offset, watch.guard.good_step) == (1, 14, 0), "rows go on after the bad ones"
    assert {**watch.state(), "guard": None} == {**at_start, "guard": None}


def test_a_watcher_that_a_checkpoint_does_not_know_begins_anew() -> None:
    watch = Watch(watched(**ALL))
    watch.restore({"judge": {"best_loss": 2.0, "best_step": 10, "misses": 1}})
    assert watch.judge.best_loss == 2.0 and watch.guard.good_step == 0


@pytest.mark.parametrize(("training", "values", "name", "level", "said"), [
    ({"keep": 1}, {"spikes": True}, "spikes", "error", "keep 2"),
    ({"accumulation": 1}, {"noise_scale": True}, "noise-scale", "warning", "with accumulation 1"),
    ({"eval_interval": 50}, {"patience": 3}, "patience", "warning", "patience 3 cannot end this run"),
])
def test_a_plan_says_where_watching_cannot_do_what_is_asked(
    training: dict[str, Any], values: dict[str, Any], name: str, level: str, said: str,
) -> None:
    (check,) = watch_checks(watched(config(**training), **values))
    assert (check.name, check.level) == (name, level) and said in check.text
    assert watch_checks(watched(**values)) == []
