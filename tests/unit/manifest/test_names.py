"""Suggestions: the closest name, or none."""

from __future__ import annotations

import pytest

from albor_pipeline.manifest.names import Suggester, closest, distance

KEYS = ("command", "depends_on", "description", "env", "inputs", "outputs", "timeout", "cuda-driver", "data-mix")


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("depend_on", "depends_on"),
        ("comand", "command"),
        ("Outputs", "outputs"),
        ("imputs", "inputs"),
        ("cuda-drivers", "cuda-driver"),
        ("evn", "env"),
        ("time", "timeout"),
        ("zebra", None),
        ("", None),
        ("x" * 10_000, None),
    ],
)
def test_the_closest_name_is_suggested(word: str, name: str | None) -> None:
    assert closest(word, KEYS) == name


def test_distance_counts_a_swap_as_one_edit_and_stops_at_the_limit() -> None:
    assert distance("ab", "ba", 3) == 1
    assert distance("kitten", "sitting", 3) == 3
    assert distance("abcdef", "uvwxyz", 2) == 3


def test_suggestions_end_when_their_bound_is_spent() -> None:
    suggest = Suggester(comparisons=len(KEYS))
    assert suggest.label("comand", KEYS) == "did you mean `command`?"
    assert suggest.label("comandd", KEYS) == ""


def test_an_equal_question_is_answered_again_within_the_bound() -> None:
    suggest = Suggester(comparisons=2 * len(KEYS))
    assert [suggest.label("comand", KEYS) for _ in range(3)] == ["did you mean `command`?"] * 3
    assert suggest.label("outptus", KEYS) == "did you mean `outputs`?"
