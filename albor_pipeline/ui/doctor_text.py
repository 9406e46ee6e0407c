"""The text of `doctor`, from the same document that --json prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from albor_pipeline.ui import words

ORDER = ("wrong", "warning", "ok")


def lines(document: Mapping[str, Any]) -> list[str]:
    """Each machine with what was looked at, a way out below what is not well, and a count."""
    found: list[str] = []
    for machine in document["machines"]:
        found += [machine["machine"]]
        findings = machine["findings"]
        table = words.columns((one["level"], one["what"], words.one_line(one["text"])) for one in findings)
        for line, one in zip(table, findings, strict=True):
            found += [line, *([f"           {words.one_line(one['way'])}"] if one["way"] else [])]
        found.append("")
    counts = Counter(one["level"] for machine in document["machines"] for one in machine["findings"])
    return [*found, f"{words.count(len(document['machines']), 'machine')}: {words.counted(counts, ORDER)}."]
