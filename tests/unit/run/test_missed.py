"""What a task printed while nobody watched it: all of a little, the end of much, and no line that is cut in two."""

from __future__ import annotations

from albor_pipeline.model.events import LogEvent
from albor_pipeline.model.resource import Key
from albor_pipeline.run.logs import MISSED_BYTES, MISSED_LINES, missed

KEY, AT = Key("train", "lambda"), "2026-03-02T14:10:02.000Z"


def of(text: str) -> tuple[LogEvent, ...]:
    """With `key` for a secret."""
    return missed(KEY, AT, text.encode(), 7.0, lambda shown: shown.replace("key", "***"))


def test_a_little_is_shown_as_it_is_and_masked() -> None:
    assert of("one\nthe key\nhalf") == (LogEvent(KEY, AT, ("one", "the ***", "half"), since_s=7.0),)
    assert of("") == ()


def test_of_much_the_end_is_shown_and_the_rest_counted() -> None:
    (event,) = of("".join(f"{n}\n" for n in range(MISSED_LINES + 3)))
    assert (event.lines[0], len(event.lines), event.more, event.uncounted) == ("3", MISSED_LINES, 3, False)


def test_of_more_than_is_looked_at_the_cut_line_is_left_out() -> None:
    line = "x" * 1023 + "\n"
    (event,) = of("y" * 1024 + line * (MISSED_BYTES // 1024 - 1))
    assert event.uncounted and event.more == MISSED_BYTES // 1024 - 2 - MISSED_LINES
    assert of("y" * MISSED_BYTES) == ()
