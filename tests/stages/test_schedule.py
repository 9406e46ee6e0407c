"""The learning rate of every step."""

from __future__ import annotations

import math

import pytest

from stages.lib.schedule import lr_at

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
