"""The learning rate of every step."""

from __future__ import annotations

import math

import pytest

from stages.lib.schedule import lr_at
from stages.lib.settings import TrainingConfig

RUN = {"peak": 0.004, "warmup_steps": 10, "max_steps": 110, "min_lr_ratio": 0.1}


def test_warm_up_is_a_line_that_meets_the_peak_and_is_never_zero() -> None:
    rates = [lr_at(step, kind="cosine", **RUN) for step in range(1, 11)]
    assert rates == pytest.approx([0.0004 * step for step in range(1, 11)])


def test_cosine_follows_its_closed_form_at_every_step() -> None:
    """ALB-079: the rate stayed constant after warm-up."""
    for step in range(11, 111):
        wanted = 0.0004 + 0.5 * 0.0036 * (1 + math.cos(math.pi * (step - 10) / 100))
        assert lr_at(step, kind="cosine", **RUN) == pytest.approx(wanted)


def test_linear_halves_its_way_and_constant_stays() -> None:
    assert lr_at(60, kind="linear", **RUN) == pytest.approx((0.004 + 0.0004) / 2)
    assert lr_at(110, kind="constant", **RUN) == 0.004


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_the_last_step_has_the_lowest_rate_that_was_asked_for(kind: str) -> None:
    """ALB-129: a horizon far beyond the run left the rate high at its end."""
    assert lr_at(110, kind=kind, **RUN) == pytest.approx(0.0004)
    assert lr_at(110, kind=kind, **{**RUN, "min_lr_ratio": 0.0}) == 0.0
    assert lr_at(110, kind=kind, **{**RUN, "warmup_steps": 0, "min_lr_ratio": 0.0}) == 0.0


def test_wsd_warms_up_for_5_stays_for_75_and_falls_for_20_of_100_steps_unless_told_otherwise() -> None:
    run = TrainingConfig(max_steps=100, batch_size=1, schedule="wsd", min_lr_ratio=0.1)
    rates = [run.lr_at(step, 1.0) for step in range(1, 101)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert set(rates[4:80]) == {1.0}
    assert rates[80:] == pytest.approx([0.1 + 0.45 * (1 + math.cos(math.pi * k / 20)) for k in range(1, 21)])
    assert rates[-1] == pytest.approx(0.1) and run.decay_start == 80


def test_wsd_takes_a_line_another_share_and_another_warm_up() -> None:
    run = TrainingConfig(max_steps=100, batch_size=1, schedule="wsd", decay_ratio=0.5, decay_shape="linear", warmup_steps=0)
    assert [run.lr_at(step, 1.0) for step in (1, 50, 51, 75, 100)] == pytest.approx([1.0, 1.0, 0.98, 0.5, 0.0])
    assert TrainingConfig(max_steps="2K", batch_size=1, schedule="wsd").warmup_steps == 102


@pytest.mark.parametrize("shape", ["cosine", "linear"])
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 1000])
def test_wsd_is_never_above_its_peak_and_meets_the_lowest_rate_at_its_last_step(shape: str, steps: int) -> None:
    run = TrainingConfig(max_steps=steps, batch_size=1, schedule="wsd", decay_shape=shape, min_lr_ratio=0.25)
    rates = [run.lr_at(step, 1.0) for step in range(1, steps + 1)]
    assert rates[-1] == pytest.approx(0.25) and max(rates) <= 1.0 and min(rates) > 0


def test_keys_of_wsd_are_refused_beside_another_schedule() -> None:
    with pytest.raises(ValueError, match="decay_ratio and decay_shape mean something only with schedule wsd, not cosine"):
        TrainingConfig(max_steps=100, batch_size=1, decay_ratio=0.1, decay_shape="linear")


def test_a_wrong_number_of_steps_is_told_once_also_with_wsd() -> None:
    with pytest.raises(ValueError, match=r"1 validation error for TrainingConfig\nmax_steps\n"):
        TrainingConfig(max_steps="1M", batch_size=1, schedule="wsd")
