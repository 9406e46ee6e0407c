"""Cron: a command that the machine runs by the clock. Declares the fields and reads schedules; installs nothing."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from albor_pipeline.resources.fields import CONTENT, DOC, Fields, Text, wrong
from albor_pipeline.resources.formats import Account

KEYWORDS = ("@reboot", "@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
PARTS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(MONTHS, start=1)}),
    ("day of the week", 0, 7, {name: number for number, name in enumerate(DAYS)}),
)


def _number(word: str, names: dict[str, int]) -> int | None:
    if word.lower() in names:
        return names[word.lower()]
    return int(word) if word.isascii() and word.isdecimal() and len(word) < 4 else None


def _is_part(text: str, low: int, high: int, names: dict[str, int]) -> bool:
    """True for `*`, a value or a range, each with a step where one is given: `*/15`, `1-5`, `0-30/10`."""
    values, slash, step = text.partition("/")
    if slash and not 1 <= (_number(step, {}) or 0) <= high:
        return False
    if values == "*":
        return True
    first, dash, last = values.partition("-")
    if slash and not dash:
        return False
    begin, end = _number(first, names), _number(last if dash else first, names)
    return begin is not None and end is not None and low <= begin <= end <= high


def _schedule(value: Any) -> Any:
    if not isinstance(value, str) or value in KEYWORDS:
        return value
    fields = value.split()
    if len(fields) != len(PARTS):
        raise wrong(f"five fields (minute hour day month weekday) or one of {', '.join(KEYWORDS)}")
    for text, (name, low, high, names) in zip(fields, PARTS, strict=True):
        for part in text.split(","):
            if not _is_part(part, low, high, names):
                raise wrong(f"a schedule whose {name} is from {low} to {high}; `{part}` is not")
    return value


class Cron(Fields):
    """A command that the machine runs by the clock; one that is not absent has a schedule and a command."""

    name: Annotated[Text, CONTENT, Field(description="the name of the job")]
    state: Annotated[Literal["present", "absent"], CONTENT, Field(description="whether it is there")] = "present"
    schedule: Annotated[
        str | None,
        BeforeValidator(_schedule),
        CONTENT,
        Field(description="minute, hour, day, month and weekday, or a word such as @daily"),
    ] = None
    command: Annotated[Text | None, CONTENT, Field(description="the shell command")] = None
    owner: Annotated[Account, CONTENT, Field(description="the account that runs it")] = "root"
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""

    @model_validator(mode="after")
    def _says_what_and_when(self) -> Cron:
        missing = [name for name in ("schedule", "command") if getattr(self, name) is None]
        if missing and self.state != "absent":
            raise wrong(f"given a `{missing[0]}`, or `state: absent`")
        return self
