"""The text of `state list` and `state show`, from the same documents that --json prints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from albor_pipeline.ui import words

Row = Mapping[str, Any]


def list_lines(document: Mapping[str, Any]) -> list[str]:
    """A line a row: what is in force, since when, and what came after."""
    rows = [
        (row["machine"], row["resource"], row["kind"], _since(row.get("in_force")), _current(row.get("current")))
        for row in document["rows"]
    ]
    table = words.columns([("machine", "resource", "type", "in force", ""), *rows]) if rows else ["Nothing is recorded."]
    return [*table, "", f"{words.count(len(rows), 'row')}, serial {document['serial']}, lineage {document['lineage']}."]


def _since(result: Row | None) -> str:
    if result is None:
        return "-"
    told = (f"run {result['run']}" if result["run"] else "", words.minute(result["at_utc"]), result.get("origin", "made"))
    return ", ".join(filter(None, told))


def _current(current: Row | None) -> str:
    return f"{current['status']} since {words.minute(current['since_utc'])}" if current else ""


def row_lines(row: Row) -> list[str]:
    """Every value of a row, a line each."""
    return words.columns(list(_values("", row)), indent="")


def _values(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _values(f"{name}.{key}" if name else str(key), item)
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield name, words.one_line(text)
