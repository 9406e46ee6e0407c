"""What is done about a broken step, and that a run with spikes and kills ends where one without kills does."""

from __future__ import annotations

import copy
import json
import math
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from stages.lib.spikes import Go, RollBack, Skip, SpikeGuard, Stop

EVERY = 5


def guard(**changes: Any) -> SpikeGuard:
    return SpikeGuard(EVERY, **{"factor": 3.0, **changes})


def sound(of: SpikeGuard, *steps: int) -> None:
    for step in steps:
        assert isinstance(of.decide(step, 4.0, 1.0), Go)


def test_a_loss_or_gradient_that_is_no_number_is_skipped_and_its_rows_count_as_read() -> None:
    watched = guard()
    sound(watched, 1)
    assert watched.decide(2, math.nan, 1.0) == Skip("the loss of step 2 is nan; the step is skipped")
    assert watched.decide(3, 4.0, math.inf) == Skip("the gradient of step 3 is inf; the step is skipped")
    sound(watched, 4)
    assert (watched.skipped, watched.data_offset, watched.mean_loss) == (2, 0, 4.0)


def test_without_help_what_is_no_number_stops_the_run() -> None:
    """ALB-042."""
    for loss, norm, said in ((math.inf, 1.0, "the loss of step 1 is inf"), (4.0, math.nan, "the gradient of step 1 is nan")):
        assert guard(factor=None).decide(1, loss, norm) == Stop(f"{said}; training stopped and saved nothing of it")
    unhelped = guard(factor=None)
    sound(unhelped, 1)
    assert unhelped.decide(2, 4000.0, 1.0) == Go()


def test_a_loss_of_exactly_zero_stops_the_run() -> None:
    """ALB-069."""
    assert guard().decide(1, 0.0, 1.0) == Stop("the loss of step 1 is exactly 0, which no text gives; training stopped")


def test_a_loss_that_stays_the_same_to_the_bit_is_told_once_also_by_a_run_that_went_on() -> None:
    """ALB-073, ALB-122: kernels called wrongly changed no weight, and the loss stood still for days."""
    watched = guard()
    first = [watched.decide(step, 4.0, 1.0) for step in (1, 2, 3, 4)]
    resumed = guard()
    resumed.restore(json.loads(json.dumps(watched.state())))
    then = [resumed.decide(step, loss, 1.0) for step, loss in enumerate([4.0, 4.0, math.nextafter(4.0, 5.0), *[4.0] * 5], 5)]
    told = [one.warning for one in (*first, *then) if isinstance(one, Go)]
    assert [step for step, text in enumerate(told, 1) if text] == [5, 12]
    assert "the loss of the 5 steps to 5 is 4, the same to the last bit" in str(told[4])


def test_a_checkpoint_of_before_the_same_losses_were_counted_is_gone_on_from() -> None:
    old = {name: value for name, value in guard().state().items() if name not in ("last_loss", "same")}
    watched = guard()
    watched.restore(old)
    assert watched.state() == guard().state()


def test_three_broken_steps_in_a_row_go_back_and_two_with_a_sound_one_between_do_not() -> None:
    watched = guard()
    sound(watched, 1, 2, 3, 4, 5, 6)
    decided = [watched.decide(step, math.nan, 1.0) for step in (7, 8)]
    sound(watched, 9)
    decided += [watched.decide(step, math.nan, 1.0) for step in (10, 11, 12)]
    assert [type(one) for one in decided] == [Skip, Skip, Skip, Skip, RollBack]
    last = decided[-1]
    assert isinstance(last, RollBack) and (last.to_step, last.data_offset) == (5, 7)
    assert last.reason.startswith("the loss of step 12 is nan, and 3 steps in a row were broken; going back to the weights after step 5")


def test_a_spike_goes_back_to_the_checkpoint_after_which_a_sound_step_was_made() -> None:
    """A checkpoint whose next step spikes may itself be what is wrong."""
    watched = guard()
    sound(watched, *range(1, 11))
    assert watched.decide(11, 12.0, 1.0) == Go()
    assert watched.good_step == 10
    early = guard()
    sound(early, *range(1, 11))
    found = early.decide(11, 12.1, 1.0)
    assert isinstance(found, RollBack) and (found.to_step, found.data_offset) == (5, 6)
    assert found.reason.startswith("the loss of step 11 is 12.1, over 3 times the 4 before it; going back to the weights after step 5")


def test_before_the_first_checkpoint_it_goes_back_to_the_start() -> None:
    watched = guard()
    sound(watched, 1, 2, 3)
    found = watched.decide(4, 100.0, 1.0)
    assert isinstance(found, RollBack) and (found.to_step, found.data_offset) == (0, 4)


def test_after_three_times_the_run_ends_and_says_what_may_help() -> None:
    watched = guard(max_rollbacks=2)
    sound(watched, *range(1, 8))
    for time in (1, 2):
        found = watched.decide(8, 100.0, 1.0)
        assert isinstance(found, RollBack) and f"({time} of 2)" in found.reason
        sound(watched, 6, 7)
    found = watched.decide(8, 100.0, 1.0)
    assert isinstance(found, Stop)
    assert "after going back 2 times" in found.reason and "A lower lr" in found.reason and "after step 5 is sound" in found.reason


def test_a_slow_rise_is_not_a_spike_and_a_spike_does_not_raise_the_mean() -> None:
    watched = guard(max_rollbacks=9)
    for step in range(1, 200):
        assert watched.decide(step, 4.0 * 1.01**step, 1.0) == Go()
    before = watched.mean_loss
    watched.decide(200, 1e9, 1.0)
    assert watched.mean_loss == before


@dataclass
class _Run:
    """A loop over numbered rows: the weights are the rows they were made of; bad rows and bad weights give bad losses."""

    bad: dict[int, float]
    steps: int = 40
    step: int = 0
    made_of: list[int] = field(default_factory=list)
    guard: SpikeGuard = field(default_factory=lambda: guard(max_rollbacks=4))
    saved: dict[int, tuple[list[int], dict[str, Any]]] = field(default_factory=dict)
    read: list[int] = field(default_factory=list)

    def forward(self) -> None:
        """One decision, as a training loop makes it."""
        row = self.step + 1 + self.guard.data_offset
        self.read.append(row)
        decided = self.guard.decide(self.step + 1, self.bad.get(row, 4.0), 1.0)
        assert not isinstance(decided, Stop)
        if isinstance(decided, RollBack):
            self.step, self.made_of = decided.to_step, list(self.saved[decided.to_step][0]) if decided.to_step else []
            self.saved = {step: kept for step, kept in self.saved.items() if step <= decided.to_step}
            return
        self.step += 1
        self.made_of += [row] if isinstance(decided, Go) else []
        if self.step % EVERY == 0:
            self.save()

    def save(self) -> None:
        self.saved[self.step] = list(self.made_of), copy.deepcopy(self.guard.state())

    def kill(self) -> None:
        """All but what was saved is lost."""
        self.step = max(self.saved, default=0)
        self.guard = guard(max_rollbacks=4)
        self.made_of = []
        if self.step:
            self.made_of = list(self.saved[self.step][0])
            self.guard.restore(self.saved[self.step][1])

    def finish(self) -> tuple[list[int], dict[str, Any]]:
        while self.step < self.steps:
            self.forward()
        return self.made_of, self.guard.state()


BAD = {3: math.nan, 12: 50.0, 13: 50.0, 26: 50.0, 31: math.nan, 32: math.inf, 33: math.nan}


def test_no_row_is_learned_twice_and_none_of_a_bad_window_at_all() -> None:
    run = _Run(dict(BAD))
    made_of, state = run.finish()
    assert state["rollbacks"] == 4 and len(made_of) == len(set(made_of)) and not set(made_of) & set(BAD)
    assert len(run.read) == len(set(run.read)) and run.read == sorted(run.read)
    assert run.step == 40 and max(run.read) == 40 + state["data_offset"]


@pytest.mark.parametrize("seed", range(20))
def test_kills_and_saves_by_signals_change_nothing_of_a_run_with_spikes(seed: int) -> None:
    straight = _Run(dict(BAD)).finish()
    run, draw = _Run(dict(BAD)), random.Random(seed)
    for _ in range(12):
        for _ in range(draw.randrange(9)):
            if run.step < run.steps:
                run.forward()
        if draw.random() < 0.5:
            run.save()
        run.kill()
    assert run.finish() == straight
