"""Which rows each step reads."""

from __future__ import annotations

import numpy as np
import pytest

from stages.lib.loader import Loader, shuffled

ROWS = np.arange(1000)[:, None].repeat(4, axis=1).astype("uint16")


def read(loader: Loader, steps: range) -> list[int]:
    return [int(row) for step in steps for row in loader.rows_of(step)]


def test_an_epoch_reads_every_row_once_and_the_next_in_another_order() -> None:
    """ALB-120: after a restart the first shard was read again."""
    loader = Loader(ROWS, 10, seed=1, pad_id=None)
    first, second = read(loader, range(1, 101)), read(loader, range(101, 201))
    assert sorted(first) == sorted(second) == list(range(1000))
    assert first != second


@pytest.mark.parametrize("stop", [1, 37, 99, 100, 101, 150])
def test_going_on_at_any_step_of_any_epoch_repeats_and_skips_nothing(stop: int) -> None:
    """U-2, ALB-120: a restart in a later epoch dropped a part of it."""
    whole = read(Loader(ROWS, 10, seed=1, pad_id=None), range(1, 251))
    before = read(Loader(ROWS, 10, seed=1, pad_id=None), range(1, stop + 1))
    after = read(Loader(ROWS, 10, seed=1, pad_id=None), range(stop + 1, 251))
    assert before + after == whole


def test_the_position_says_epoch_and_rows() -> None:
    loader = Loader(ROWS, 30, seed=1, pad_id=None)
    assert loader.position(33) == (1, 0)
    assert loader.position(40) == (1, 210)


def test_the_first_batches_span_the_whole_corpus() -> None:
    """ALB-121: shards were read one after the other."""
    first = shuffled(100_000, seed=5, epoch=0)[:1000]
    assert set(first // 10_000) == set(range(10))


def test_the_order_is_fixed_by_seed_and_epoch() -> None:
    assert (shuffled(50, 1, 0) == shuffled(50, 1, 0)).all()
    assert (shuffled(50, 1, 0) != shuffled(50, 2, 0)).any()


@pytest.mark.torch
def test_targets_are_the_next_tokens_and_pad_does_not_count() -> None:
    from stages.lib.loader import batches
    from stages.lib.loss import IGNORED

    rows = np.array([[5, 6, 7, 1], [8, 1, 1, 1]], dtype="uint16")
    [(inputs, targets)] = batches(rows, 2, pad_id=1)
    assert inputs.tolist() == [[5, 6, 7], [8, 1, 1]]
    assert targets.tolist() == [[6, 7, IGNORED], [IGNORED] * 3]
