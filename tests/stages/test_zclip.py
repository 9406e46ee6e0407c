"""Adaptive clipping: what is let through, what is scaled down and to what."""

from __future__ import annotations

import math
import random
import statistics

import pytest

from stages.lib.zclip import ZClip


def clipped(norms: list[float], clip: ZClip) -> list[float]:
    """The norms after clipping."""
    return [min(norm, limit) if (limit := clip.limit(norm)) is not None else norm for norm in norms]


def warmed(**changes: float) -> ZClip:
    """After a warm-up of 0.9 and 1.1: mean 1, variance 0.01."""
    clip = ZClip(**{"warmup": 10, **changes})  # type: ignore[arg-type]
    assert [clip.limit(1 + 0.1 * (-1) ** k) for k in range(10)] == [clip.ceiling] * 10
    assert (clip.mean, clip.variance) == (pytest.approx(1.0), pytest.approx(0.01))
    return clip


def test_an_outlier_is_scaled_down_by_the_reciprocal_of_its_distance_and_so_enters_the_mean() -> None:
    """z = (2 - 1) / 0.1 = 10, and 1 + 0.1 * 2.5^2 / 10 = 1.0625."""
    clip = warmed()
    assert clip.limit(2.0) == pytest.approx(1.0625, rel=1e-4)
    assert clip.mean == pytest.approx(0.97 + 0.03 * 1.0625, rel=1e-4)
    assert clip.variance == pytest.approx(0.97 * 0.01 + 0.03 * (1.0625 - 1.001875) ** 2, rel=1e-4)
    assert clip.outliers == 1


def test_the_farther_out_the_smaller_what_is_left() -> None:
    limits = [warmed().limit(norm) for norm in (1.3, 2.0, 5.0, 1000.0)]
    assert limits == sorted(limits, reverse=True) and limits[-1] == pytest.approx(1.0, abs=1e-3)


def test_a_norm_within_the_threshold_or_low_is_let_through_and_learned() -> None:
    clip = warmed()
    assert clip.limit(1.2) is None
    assert clip.mean == pytest.approx(0.97 + 0.03 * 1.2)
    assert clip.limit(0.001) is None and clip.outliers == 0


def test_spikes_leave_half_the_variance_at_most_that_a_fixed_limit_leaves() -> None:
    """F-ADAPT-001."""
    draw = random.Random(7)
    norms = [abs(draw.gauss(0.3, 0.03)) * (draw.uniform(5, 50) if draw.random() < 0.05 else 1) for _ in range(2000)]
    fixed = [min(norm, 1.0) for norm in norms]
    adaptive = clipped(norms, ZClip(ceiling=1.0))
    assert statistics.variance(adaptive[25:]) <= 0.5 * statistics.variance(fixed[25:])
    assert statistics.mean(adaptive[25:]) == pytest.approx(0.3, abs=0.03)


def test_norms_without_spikes_are_hardly_touched() -> None:
    draw = random.Random(8)
    norms = [abs(draw.gauss(0.3, 0.03)) for _ in range(2000)]
    clip = ZClip()
    assert clipped(norms, clip) != norms
    assert clip.outliers < 0.03 * len(norms)


def test_a_lasting_jump_is_a_new_level_after_as_many_steps_as_the_warm_up_has() -> None:
    draw = random.Random(9)
    clip = ZClip(warmup=25)
    clipped([abs(draw.gauss(0.3, 0.03)) for _ in range(100)], clip)
    after = clipped([abs(draw.gauss(3.0, 0.1)) for _ in range(100)], clip)
    assert max(after[:25]) < 0.6 and statistics.mean(after[25:]) == pytest.approx(3.0, abs=0.1)


def test_a_fixed_limit_beside_it_holds_always_and_no_number_teaches_nothing() -> None:
    clip = warmed(ceiling=0.5)
    before = clip.state()
    assert [clip.limit(norm) for norm in (math.nan, math.inf)] == [0.5, 0.5]
    assert clip.state() == before
    assert clip.limit(2.0) == clip.limit(1.0) == 0.5
