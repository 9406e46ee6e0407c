"""The text of `why`: every part of a fingerprint, changed or not. Decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from albor_pipeline.ui import words
from albor_pipeline.ui.hints import Hints


def why_lines(document: Mapping[str, Any], hints: Hints) -> list[str]:
    """What is recorded, what will be done, each part with its change, and what may follow."""
    name = document["resource"]
    done = f"done in run {document['run']}" if document["run"] else "never done"
    origin = f" ({document['origin']})" if document["origin"] not in (None, "made") else ""
    lines = [f"{name} on {document['machine']}: {done}{origin}, {document['verdict']}."]
    lines += words.columns([(part["group"], part["state"], part["text"]) for part in document["parts"]])
    kept = document.get("kept") or ()
    if len(kept) > 1:
        told = ", ".join(f"{one['id']} (run {one['run']}{', in force' if one['in_force'] else ''})" for one in kept)
        lines.append(f"  results  {len(kept)} results of this are kept: {told}")
        lines.append(f"           to choose: {hints.again('state', 'use', name, 'RESULT')}")
    if document["then"]:
        lines.append(f"Then may run, if its output changes: {', '.join(document['then'])}.")
    if document["changed"] and document["run"]:
        lines.append(f"To keep what exists: {hints.again('accept', name)}")
    return lines


def group_text(group: str, values: Mapping[str, str], changes: Sequence[str]) -> str:
    """What a group is made of, or what changed in it."""
    if changes:
        return "; ".join(changes[:4]) + (f"; and {len(changes) - 4} more" if len(changes) > 4 else "")
    if group == "command":
        return " ".join(value for value in values.values())[:80]
    if group == "code":
        return words.count(len(values), "file")
    if group == "inputs":
        return ", ".join(f"{path} ({words.digest(root)})" for path, root in list(values.items())[:3])
    if group == "python":
        return ", ".join(f"{name} {version}" for name, version in list(values.items())[:4])
    if group in ("outputs", "env"):
        return ", ".join(list(values)[:4]) + (f" and {len(values) - 4} more" if len(values) > 4 else "")
    return words.count(len(values), "value")
