"""Times, sizes, counts and columns as a person reads them; nothing that a task writes of itself can break a line."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from albor_pipeline.ui import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.04, "0.0 s"), (9.94, "9.9 s"), (39.4, "39 s"), (59.6, "1 min 00 s"), (524, "8 min 44 s"), (3599.6, "1 h 00 min"),
        (11400, "3 h 10 min"),
        (86400, "1 d 00 h"), (432000 + 7200, "5 d 02 h"), (86400 * 4000, "4000 d 00 h"),
        (8.64e13, "1000000000 d 00 h"),
    ],
)  # fmt: skip
def test_seconds(value: float, text: str) -> None:
    assert words.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (812, "812 B"), (999.6, "1.0 kB"), (1000, "1.0 kB"), (57_000, "57.0 kB"), (999_950, "1.0 MB"), (4.1e9, "4.1 GB"),
     (123e9, "123 GB"), (5e15, "5000 TB")],
)  # fmt: skip
def test_sizes_are_decimal(value: float, text: str) -> None:
    assert words.size(value) == text


def test_counts_leave_out_what_is_zero_and_keep_the_order() -> None:
    counts = {"unchanged": 13, "odd": 1, "done": 3, "failed": 0}
    assert words.counted(counts, ("done", "failed", "unchanged")) == "3 done, 13 unchanged, 1 odd"
    assert (words.count(1, "machine"), words.count(0, "machine")) == ("1 machine", "0 machines")


def test_columns_line_up_and_end_without_spaces() -> None:
    assert words.columns([("a", "long name", "x"), ("bb", "n", "")]) == ["  a   long name  x", "  bb  n"]
    assert words.columns([]) == []


def test_the_progress_of_a_training_stage_takes_three_lines() -> None:
    values = {"step": 24000, "of": 38349, "loss": 2.41, "best_val": 2.63, "tokens_per_s": 28900.0, "eta_s": 64980, "note": "warming up"}
    assert words.progress(values) == [
        "step 24,000 of 38,349 (62.6%)", "loss 2.41, best val 2.63", "28,900 tok/s, ETA 18 h 03 min", "warming up",
    ]  # fmt: skip


def test_a_share_of_a_peak_stands_with_that_peak_or_not_at_all() -> None:
    values = {"tokens_per_s": 28900.0, "mfu": 0.46, "mfu_of": "165 TFLOP/s bf16", "eta_s": 64980}
    assert words.progress(values) == ["28,900 tok/s, MFU 46% of 165 TFLOP/s bf16, ETA 18 h 03 min"]
    assert words.progress({"mfu": 0.46}) == words.progress({"mfu_of": "165 TFLOP/s bf16"}) == []


def test_a_stage_that_tells_little_takes_little_room() -> None:
    assert words.progress({}) == []
    assert words.progress({"step": 3, "of": 0}) == ["step 3"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 10**400, "soon", True, None, [], {}])
@pytest.mark.parametrize("name", ["step", "of", "loss", "best_val", "tokens_per_s", "mfu", "mfu_of", "eta_s", "note"])
def test_an_odd_value_never_stops_a_run(name: str, value: object) -> None:
    assert all(isinstance(line, str) for line in words.progress({"step": 3, name: value}))


def test_what_a_task_wrote_cannot_move_the_cursor() -> None:
    assert words.one_line("\x1b[31mred\x1b[0m 10%\r100%\n\x1b]0;title\x07\x08done") == "red 10% 100% <U+0008>done"


def test_a_move_shows_how_much_of_it_came_and_how_fast() -> None:
    assert words.progress({"moved_bytes": 620, "of_bytes": 1000, "files": 2, "bytes_per_s": 45e6}) == ["62% of 1.0 kB, 45.0 MB/s"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
NAMES = st.sampled_from(
    ["step", "of", "loss", "best_val", "tokens_per_s", "mfu", "mfu_of", "eta_s", "note", "moved_bytes", "of_bytes", "bytes_per_s"]
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(NAMES, JSON))
def test_whatever_a_task_writes_of_itself_has_a_text_of_single_lines(values: dict[str, object]) -> None:
    assert all(len(line.splitlines()) <= 1 for line in words.progress(values))
