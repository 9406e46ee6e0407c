"""Configuration values count by value, and a fingerprint names the part that changed."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.plan import reasons
from albor_pipeline.plan.values import flat, number


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1e-3, "1e-3"), (5e-4, "5e-4"), (0.95, "0.95"), (0.1, "0.1"), (1e6, "1000000"), (3.0, "3"), (1e-8, "1e-8"), (-2e-5, "-2e-5")],
)
def test_numbers_read_as_people_write_them(value: float, shown: str) -> None:
    assert number(value) == shown


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_of_a_number_is_that_number(value: float) -> None:
    assert float(number(value)) == value


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_every_float_has_a_text(value: float) -> None:
    assert math.isnan(float(number(value))) == math.isnan(value)


def test_nested_values_get_dotted_names() -> None:
    assert flat({"optimizer": {"lr": 0.001, "betas": [0.9, 0.95]}, "tie": True, "none": None, "empty": {}}) == {
        "optimizer.lr": "1e-3", "optimizer.betas[0]": "0.9", "optimizer.betas[1]": "0.95", "tie": "true", "none": "null", "empty": "{}",
    }  # fmt: skip


def test_integer_and_equal_float_are_one_value() -> None:
    assert flat({"steps": 1000000}) == flat({"steps": 1e6})


def test_a_change_is_named_with_both_values() -> None:
    old = Fingerprint({"config": {"optimizer.lr": "1e-3"}})
    new = Fingerprint({"config": {"optimizer.lr": "5e-4"}})
    assert reasons.of_changes(new.changes(old)) == "config.optimizer.lr 1e-3 -> 5e-4"


def test_a_changed_command_shows_the_words_that_differ() -> None:
    old = Fingerprint({"command": {"": "mix --data x --seed 42 --out y"}})
    new = Fingerprint({"command": {"": "mix --data x --seed 43 --out y"}})
    assert reasons.of_changes(new.changes(old)) == "command changed: --seed 42 -> --seed 43"


def test_digests_are_named_not_shown_and_more_changes_are_counted() -> None:
    old = Fingerprint({"code": {"stages/lib/optim.py": "aa"}, "inputs": {"data/mixed": "11"}})
    new = Fingerprint({"code": {"stages/lib/optim.py": "bb"}, "inputs": {"data/mixed": "22"}})
    assert reasons.of_changes(new.changes(old)) == "code stages/lib/optim.py changed (and 1 more)"


PARTS = st.dictionaries(
    st.sampled_from(["command", "config", "code", "env", "inputs"]),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), min_size=1, max_size=3),
    max_size=4,
)


@given(PARTS, PARTS)
def test_fingerprints_are_equal_exactly_when_no_part_differs(one: dict[str, dict[str, str]], two: dict[str, dict[str, str]]) -> None:
    first, second = Fingerprint(one), Fingerprint(two)
    assert (not first.changes(second)) == (first.canonical == second.canonical)


def test_a_part_that_is_not_known_yet_is_no_change() -> None:
    old = Fingerprint({"inputs": {"data": "11"}})
    assert Fingerprint({}, ("data",)).changes(old) == ()
