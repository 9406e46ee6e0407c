"""Masking: no secret is shown, however the text that holds it is cut into pieces, and nothing else is changed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from albor_pipeline.run.secrets import MASKED, MIN_MASKED, Masker

LETTERS = st.text("ab", max_size=12)
SECRETS = st.lists(st.text("ab", min_size=MIN_MASKED, max_size=7), max_size=3)


def _shown(values: list[str], pieces: list[str]) -> str:
    masker = Masker(values)
    return "".join([*map(masker.feed, pieces), masker.end()])


@given(SECRETS, st.lists(LETTERS, max_size=6))
def test_the_cuts_change_nothing(values: list[str], pieces: list[str]) -> None:
    assert _shown(values, pieces) == _shown(values, ["".join(pieces)])


@given(SECRETS, LETTERS, LETTERS)
def test_no_secret_is_shown(values: list[str], before: str, after: str) -> None:
    for value in values:
        shown = _shown(values, [*before, *value, *after])
        assert not any(secret in part for secret in values for part in shown.split(MASKED))


@given(st.lists(LETTERS, max_size=6))
def test_text_without_a_secret_is_shown_as_it_is(pieces: list[str]) -> None:
    assert _shown(["xyzzy", "abc"], pieces) == "".join(pieces)


def test_the_longest_of_two_that_begin_alike_is_masked_whole() -> None:
    assert _shown(["abcd", "abcdef"], ["-abcd", "ef-abcd-"]) == "-***-***-"


def test_the_beginning_of_a_secret_at_the_end_is_not_shown() -> None:
    assert _shown(["correct-horse"], ["it is corr", "ect"]) == "it is ***"
    assert _shown(["correct-horse"], ["it is cor"]) == "it is cor"


def test_a_line_is_shown_before_the_next_one_comes() -> None:
    assert Masker(["correct-horse"]).feed("step 1\n") == "step 1\n"
