"""Which rows each step reads."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from stages.lib.loader import Loader, Phase, shuffled
from stages.lib.prefetch import Prefetch
from stages.lib.stage import StageError

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


def test_what_an_epoch_leaves_over_the_next_one_reads() -> None:
    """A step of 30 leaves ten of 1,000 rows over; never the same ones."""
    loader = Loader(ROWS, 30, seed=1, pad_id=None)
    left = [set(range(1000)) - set(read(loader, range(1 + 33 * epoch, 34 + 33 * epoch))) for epoch in range(20)]
    assert {len(rows) for rows in left} == {10}
    assert set.intersection(*left) == set() and len(set.union(*left)) > 100


def test_epochs_roll_over_as_long_as_steps_are_asked_for() -> None:
    """ALB-060: a run ended with its data."""
    loader = Loader(ROWS[:25], 10, seed=1, pad_id=None)
    assert [loader.place(step).epoch for step in range(1, 9)] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert len(loader.rows_of(10**9)) == 10


def test_rows_that_fill_no_step_are_refused() -> None:
    with pytest.raises(StageError, match="9 rows do not fill a step of 10"):
        Loader(ROWS[:9], 10, seed=1, pad_id=None)


def taught(loader: Loader | Prefetch, steps: range) -> list[list[int]]:
    """The first token of every row that each step learns from."""
    return [[int(row[0]) for inputs, _ in loader.micro_batches(step, 4) for row in inputs] for step in steps]


@pytest.mark.torch
def test_a_curriculum_changes_the_data_and_each_part_goes_on_where_it_was() -> None:
    """Practice 53: a curriculum was logged and nothing else."""
    first, second = ROWS[:100], ROWS[500:540]
    phases = [Phase(first, 4), Phase(second, 7), Phase(first, 17), Phase(second)]
    found = taught(Loader(phases, 10, seed=1, pad_id=None), range(1, 25))
    assert [min(rows) >= 500 for rows in found] == [False] * 4 + [True] * 3 + [False] * 10 + [True] * 7
    alone = taught(Loader(first, 10, 1, None), range(1, 15)), taught(Loader(second, 10, 1, None), range(1, 11))
    assert found[:4] + found[7:17] == alone[0]
    assert found[4:7] + found[17:] == alone[1]
    loader = Loader(phases, 10, seed=1, pad_id=None)
    assert [loader.position(step) for step in (3, 4, 6, 7, 13, 17, 18)] == [(0, 30), (0, 0), (0, 20), (0, 40), (1, 0), (0, 30), (1, 0)]
    assert taught(Loader(phases, 10, seed=1, pad_id=None), range(12, 25)) == found[11:]


@pytest.mark.parametrize("ends", [(0,), (5, 5, None), (7, 3, None), (None, None), (0, None), (5, 4)])
def test_phases_without_an_order_are_refused(ends: tuple[int | None, ...]) -> None:
    with pytest.raises(StageError, match="each must end after the one before"):
        Loader([Phase(ROWS, end) for end in ends], 10, seed=1, pad_id=None)


@pytest.mark.torch
@pytest.mark.parametrize("pad_id", [None, 7])
def test_batches_made_ahead_are_those_made_when_asked_for(pad_id: int | None) -> None:
    import torch

    plain = Loader(ROWS, 10, seed=1, pad_id=pad_id)
    with Prefetch(Loader(ROWS, 10, seed=1, pad_id=pad_id)) as ahead:
        for step in (*range(1, 120), 50, 51, 52, 7, 8):
            pairs = zip(plain.micro_batches(step, 4), ahead.micro_batches(step, 4), strict=True)
            assert all(torch.equal(x, y) for one, other in pairs for x, y in zip(one, other, strict=True))
        sizes = [len(inputs) for inputs, _ in ahead.micro_batches(9, 3)]
    assert sizes == [3, 3, 3, 1]


@pytest.mark.torch
def test_a_fault_while_batches_are_made_is_raised_in_the_step_that_needs_them() -> None:
    class Breaking(Loader):
        def rows_of(self, step: int) -> np.ndarray:
            if step == 5:
                raise OSError(5, "Input/output error")
            return super().rows_of(step)

    before = threading.active_count()
    with Prefetch(Breaking(ROWS, 10, seed=1, pad_id=None)) as ahead:
        assert len(taught(ahead, range(1, 5))) == 4
        for _ in range(2):
            with pytest.raises(OSError, match="Input/output error"):
                ahead.micro_batches(5, 4)
    assert threading.active_count() == before


@pytest.mark.torch
def test_a_prefetch_is_never_more_than_its_depth_ahead_and_ends_when_closed() -> None:
    asked: list[int] = []

    class Counting(Loader):
        def rows_of(self, step: int) -> np.ndarray:
            asked.append(step)
            return super().rows_of(step)

    before = threading.active_count()
    ahead = Prefetch(Counting(ROWS, 10, seed=1, pad_id=None), depth=2)
    for step in range(1, 30):
        ahead.micro_batches(step, 4)
        assert max(asked) <= step + 3
    assert threading.active_count() == before + 1
    ahead.close()
    assert threading.active_count() == before
    assert asked == list(range(1, len(asked) + 1))
