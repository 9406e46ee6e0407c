"""The best validation and the end of patience, on the sequences that the contract AUTOEVAL gives."""

from __future__ import annotations

import math

from stages.lib.judge import Judge, due


def test_a_validation_is_due_at_every_multiple_and_not_before_training() -> None:
    """AUTOEVAL: evaluation iff step > 0 and step % interval = 0."""
    assert [step for step in range(31) if due(step, 10)] == [10, 20, 30]


def test_each_lower_loss_is_a_best_to_keep() -> None:
    """AUTOEVAL-001: three writes of the best. ALB-087: best and patience were missing."""
    judge = Judge(patience=0)
    assert [judge.see(step, loss).best for step, loss in enumerate([7, 6.5, 6.8, 6.3, 6.9], 1)] == [True, True, False, True, False]
    assert (judge.best_step, judge.best_loss) == (4, 6.3)


def test_patience_ends_training_at_the_third_miss_in_a_row() -> None:
    """AUTOEVAL-002: patience 3 stops at the fifth validation."""
    judge = Judge(patience=3)
    assert [judge.see(step, loss).stop for step, loss in enumerate([7, 6.5, 6.8, 6.9, 7, 7.1], 1)] == [
        False, False, False, False, True, True]


def test_a_lower_loss_begins_patience_anew() -> None:
    judge = Judge(patience=2)
    assert not any(judge.see(step, loss).stop for step, loss in enumerate([7, 7.1, 6.9, 7, 6.8, 6.9], 1))


def test_patience_0_never_ends_training() -> None:
    """AUTOEVAL-003."""
    judge = Judge(patience=0)
    assert not any(judge.see(step, 7.0 + step).stop for step in range(1, 1000))


def test_of_equal_losses_the_first_is_the_best_and_no_number_is_never_one() -> None:
    judge = Judge(patience=0)
    assert not judge.see(1, math.nan).best
    assert judge.see(2, 5.0).best and not judge.see(3, 5.0).best and not judge.see(4, math.nan).best
    assert (judge.best_step, judge.misses) == (2, 2)
