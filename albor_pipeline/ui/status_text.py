"""The text of `status`, `ps`, `drift`, `history` and `audit`, from the same documents that --json prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from albor_pipeline.ui import words
from albor_pipeline.ui.hints import Hints

STATES = ("converged", "failed", "pending", "running", "interrupted")


def status_lines(document: Mapping[str, Any], when: str | None) -> list[str]:
    """A table of all resources, running ones with their progress, and the counts."""
    run = document["run"]
    state = f"run {run} of {words.minute(when)} UTC" if run and when else f"run {run}" if run else "never applied"
    rows: list[tuple[str, ...]] = [("machine", "resource", "type", "state", "since", "note")]
    for row in document["resources"]:
        notes = note_lines(row)
        since = words.minute(row["since"])[5:] if row["since"] else "-"
        rows.append((row["machine"], row["resource_id"], row["resource_type"], row["status"], since, notes[0] if notes else ""))
        rows += [("", "", "", "", "", line) for line in notes[1:]]
    counts = document["counts"]
    total = words.count(len(document["resources"]), "resource")
    summary = ", ".join(f"{counts.get(name, 0)} {name}" for name in STATES)
    return [f"{document['name']}: {state}", "", *words.columns(rows), "", f"{total}: {summary}."]


def note_lines(row: Mapping[str, Any]) -> list[str]:
    """What stands in the last column of a row."""
    if row["status"] == "running":
        return words.progress(row["progress"]) or [f"attempt {row['attempt']}" if row["attempt"] else f"begun in run {row['run']}"]
    if row["status"] == "failed":
        return [", ".join(part for part in (row["detail"] or row["exit_class"], row["log"]) if part)]
    if row.get("waits_for"):
        return [f"waits for {', '.join(row['waits_for'])}"]
    outputs = row["outputs"]
    if outputs:
        total = sum(proof["size_bytes"] for proof in outputs.values())
        adopted = "" if row["origin"] == "made" else f", {row['origin']}"
        return [f"{words.count(len(outputs), 'output')}, {words.size(total)}{adopted}"]
    return []


def drift_lines(document: Mapping[str, Any], hints: Hints) -> list[str]:
    """Each finding on a line, then the counts and the way out."""
    machines = words.count(document["machines_checked"], "machine")
    checked = words.count(document["checked"], "converged resource")
    lines = [f"Checked {checked} on {machines} in {words.seconds(document['seconds'])}.", ""]
    rows = [(item["what"], item["resource"], item["resource_type"], item["machine"], item["detail"]) for item in document["findings"]]
    lines += words.columns(rows)
    drifted, unknown = (
        {(item["resource"], item["machine"]) for item in document["findings"] if item["what"] == what} for what in ("drifted", "unknown")
    )
    if rows:
        lines.append("")
    lines.append(f"{len(drifted)} drifted, {len(unknown)} unknown, {document['checked'] - len(drifted | unknown)} as recorded.")
    if drifted:
        lines.append(f"To see and do the repair: {hints.again('plan')}, then {hints.short('apply')}")
    return lines


def history_lines(events: Sequence[Mapping[str, Any]]) -> list[str]:
    """One line for each journal record."""
    rows = [
        (
            str(item.get("serial", "")),
            words.minute(str(item["at_utc"])) + str(item["at_utc"])[16:19],
            str(item.get("run") or ""),
            f"{item['resource']}@{item['machine']}" if item.get("resource") else str(item.get("machine") or ""),
            str(item.get("what", "")),
            str(item.get("note") or ""),
        )
        for item in events
    ]
    return words.columns(rows) if rows else ["Nothing has happened yet."]


def ps_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is alive, with step and rate."""
    if not rows:
        return ["Nothing is running."]
    table: list[tuple[str, ...]] = [("machine", "resource", "attempt", "state", "since", "progress")]
    for row in rows:
        progress = ", ".join(words.progress(row["progress"]))
        table.append(
            (row["machine"], row["resource"], str(row["number"]), row["liveness"], words.minute(row["started_utc"]), progress)
        )
    return words.columns(table)
