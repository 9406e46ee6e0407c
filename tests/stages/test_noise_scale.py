"""The gradient noise scale from squared norms of micro-batches and whole batches."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stages.lib.noise import NoiseScale


def test_expected_norms_give_the_noise_scale_exactly() -> None:
    """E|G_B|^2 = |G|^2 + tr(S) / B; here |G|^2 = 2 and tr(S) = 3000."""
    scale = NoiseScale(small=8, big=64)
    scale.see(2 + 3000 / 8, 2 + 3000 / 64)
    assert scale.value == pytest.approx(1500)


def test_gradients_with_known_noise_give_their_noise_scale() -> None:
    """200 weights, a mean gradient of length 1 and noise of variance 0.16 in each: tr(S) / |G|^2 = 32."""
    random = np.random.Generator(np.random.Philox(key=3))
    truth = np.full(200, 1 / math.sqrt(200))
    scale = NoiseScale(small=4, big=32, window=400)
    for _ in range(400):
        rows = truth + random.normal(0, 0.4, (32, 200))
        small = np.mean([np.sum(rows[at : at + 4].mean(axis=0) ** 2) for at in range(0, 32, 4)])
        scale.see(float(small), float(np.sum(rows.mean(axis=0) ** 2)))
    assert scale.value == pytest.approx(32, rel=0.05)


def test_only_the_last_hundred_steps_count() -> None:
    scale = NoiseScale(8, 64)
    for noise in (9e9,) * 50 + (3000,) * 100:
        scale.see(2 + noise / 8, 2 + noise / 64)
    assert scale.value == pytest.approx(1500)


def test_without_accumulation_and_where_noise_hides_the_gradient_there_is_none() -> None:
    same, hidden, broken = NoiseScale(64, 64), NoiseScale(8, 64), NoiseScale(8, 64)
    same.see(3.0, 3.0)
    hidden.see(80.0, 5.0)
    broken.see(math.inf, 1.0)
    assert same.value is hidden.value is broken.value is NoiseScale(8, 64).value is None
