"""The loss that validations forecast for the end of a run, and the warning of a plateau."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stages.lib.forecast import Forecast

# A run of the ladder whose plateau was noticed late: its validations, of 983 million tokens in all.
PLATEAU = [(65_000_000, 6.8935), (131_000_000, 6.8906), (197_000_000, 6.8592), (262_000_000, 6.8226)]
STEEP = [(10_000_000, 8.0), (20_000_000, 7.0), (40_000_000, 6.0), (80_000_000, 5.0)]


def test_three_points_on_a_law_give_back_the_law() -> None:
    forecast = Forecast(end_tokens=100)
    for power in (1, 2):
        forecast.seen.append((math.exp(power), 7.5 - 0.5 * power))  # type: ignore[arg-type]
        assert forecast.law() is None and forecast.at_end() is None
    forecast.seen.append((math.exp(3), 6.0))  # type: ignore[arg-type]
    law = forecast.law()
    assert law is not None and (law.a, law.b) == (pytest.approx(7.5, abs=1e-12), pytest.approx(0.5, abs=1e-12))
    assert forecast.at_end() == pytest.approx(7.5 - 0.5 * math.log(100))


def test_the_law_is_that_of_numpys_least_squares() -> None:
    random = np.random.Generator(np.random.Philox(key=5))
    forecast = Forecast(10**9)
    for tokens in sorted(random.integers(10**6, 10**9, 40)):
        forecast.see(int(tokens), float(9 - 0.3 * np.log(tokens) + random.normal(0, 0.1)))
    slope, at_one = np.polyfit(np.log([tokens for tokens, _ in forecast.seen]), [loss for _, loss in forecast.seen], 1)
    law = forecast.law()
    assert law is not None and (law.a, -law.b) == (pytest.approx(at_one, rel=1e-9), pytest.approx(slope, rel=1e-9))


def test_a_plateau_is_told_at_the_fourth_validation_and_only_once() -> None:
    """ALB-082: the plateau was noticed late. The ladder's figures: perplexity 918 now, 876 forecast, 4.6 % lower."""
    forecast = Forecast(983_000_000)
    said = [forecast.see(tokens, loss) for tokens, loss in [*PLATEAU, (300_000_000, 6.82)]]
    assert said[:3] == [None, None, None] and said[4] is None
    assert said[3] is not None and said[3].startswith(
        "after 27% of the tokens the loss is 6.823 and is forecast to end at 6.775, a perplexity 4.6% lower")
    again = Forecast(983_000_000)
    again.seen = list(PLATEAU)
    assert math.exp(again.at_end() or 0) == pytest.approx(876, abs=1)


def test_a_loss_that_falls_well_is_not_warned_of() -> None:
    forecast = Forecast(160_000_000)
    assert [forecast.see(*one) for one in STEEP] == [None] * 4
    assert forecast.gain() == pytest.approx(1 - math.exp(-math.log(2) / math.log(2)), abs=0.01)


def test_a_loss_that_rises_is_warned_of_and_the_end_of_a_good_run_is_not() -> None:
    rising = Forecast(10**9)
    assert [rising.see(k * 10**6, 5.0 + k / 10) for k in range(1, 5)][3] is not None
    good = Forecast(100)
    assert [good.see(k, 8 - math.log(k)) for k in range(10, 101, 10)] == [None] * 10
    assert good.gain() == pytest.approx(0.0)


def test_validations_at_one_place_or_before_training_give_no_law() -> None:
    forecast = Forecast(100)
    for _ in range(5):
        assert forecast.see(10, 3.0) is None and forecast.see(0, 9.0) is None and forecast.see(20, math.nan) is None
    assert forecast.law() is None and len(forecast.seen) == 5
