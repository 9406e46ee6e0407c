"""Field types: what raw text means, and which change counts."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic_core import PydanticCustomError

from albor_pipeline.resources.fields import (
    CONTENT,
    DOC,
    POLICY,
    Quoted,
    class_of,
    parse_bytes,
    parse_count,
    parse_flag,
    parse_seconds,
    typed,
)
from albor_pipeline.resources.task import Task


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90.0), ("1.5", 1.5), ("10m", 600.0), ("1h30m", 5400.0), ("500ms", 0.5), ("2d", 172_800.0)],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds
    assert parse_seconds(Quoted("10m")) == 600.0


@pytest.mark.parametrize(
    "value", ["", "0", "-1", "10 minutes", "m", "1h30", "1e3", Quoted("60"), None, ["1"], "9" * 400]
)
def test_what_is_no_time_is_refused(value: Any) -> None:
    with pytest.raises(PydanticCustomError):
        parse_seconds(value)


@pytest.mark.parametrize(
    ("text", "size_bytes"), [("512MB", 512_000_000), ("16GiB", 16 << 30), ("1.5KB", 1500), ("7", 7), ("0", 0)]
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert parse_bytes(text) == size_bytes


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("12", 12), ("0x10", 16), ("0o17", 15), ("0b11", 3)])
def test_counts(text: str, number: int) -> None:
    assert parse_count(text) == number


@pytest.mark.parametrize("value", ["-1", "010", "1.0", "1_000", "x", "", Quoted("1"), None, [], "1" * 5000])
def test_what_is_no_count_is_refused(value: Any) -> None:
    with pytest.raises(PydanticCustomError):
        parse_count(value)


@pytest.mark.parametrize("value", ["yes", "on", "1", Quoted("true"), None])
def test_only_yaml_1_2_bools_are_bools(value: Any) -> None:
    assert (parse_flag("true"), parse_flag("False")) == (True, False)
    with pytest.raises(PydanticCustomError):
        parse_flag(value)


def test_free_values_are_typed_all_the_way_down() -> None:
    value = {"a": ["1", "1.5", "-.inf", "1e3", "01", "true", "~", Quoted("1")], "b": {"c": "no"}}
    assert typed(value) == {"a": [1, 1.5, float("-inf"), 1000.0, "01", True, None, "1"], "b": {"c": "no"}}
    assert type(typed(Quoted("1"))) is str


def test_every_field_of_a_task_says_what_its_change_means() -> None:
    classes = {name: class_of(Task, name) for name in Task.model_fields}
    content = {"command", "stage", "config", "set", "inputs", "outputs", "env", "python", "working_dir"}
    content |= {"stages", "scatter", "gather", "ranks_on"}
    assert {name for name, found in classes.items() if found is CONTENT} == content
    assert {name for name, found in classes.items() if found is DOC} == {"name", "description"}
    assert classes["timeout"] is POLICY and classes["needs"] is POLICY and classes["retry"] is POLICY
