"""Book: the rows in memory, and what one journal line does to them. Knows no files; the same step serves a run and a replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Entry
from albor_pipeline.state import codec
from albor_pipeline.state.rows import Rows

GONE = ("forgotten", "destroyed")
RUN_WORDS = ("run-started", "run-ended")


@dataclass(frozen=True)
class Transition:
    """One move to be recorded; `what` is the journal's word.

    `entry` is the whole row after the move (only what differs from the row before is written). Without an entry the row
    of `key` goes away for `forgotten` and `destroyed`, and stays as it is for every other word. `facts` are kept in the
    line and change nothing.
    """

    what: str
    key: Key | None = None
    entry: Entry | None = None
    note: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    machine: str | None = None
    machine_id: str | None = None
    outputs: Mapping[str, str] | None = None


@dataclass
class Book:
    """All rows of one lineage and what is known of the pipeline as a whole; `dirty` names the machines changed since a snapshot."""

    lineage: str
    pipeline: str
    rows: Rows = field(default_factory=Rows)
    machine_ids: dict[str, str] = field(default_factory=dict)
    last_run: str | None = None
    last_run_utc: str | None = None
    outputs: dict[str, str] = field(default_factory=dict)
    manifest: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    dirty: set[str] = field(default_factory=set)

    def machines(self) -> set[str]:
        """Every machine that has a row or a recorded identity."""
        return {key.machine for key in self.rows} | self.machine_ids.keys()

    def clear(self, lineage: str) -> None:
        """Forget every row: the state was rebuilt at this place of the journal."""
        self.rows.clear()
        self.machine_ids.clear()
        self.lineage = lineage

    def body(self, move: Transition, row: Entry | None, at_utc: str, run: str | None) -> dict[str, Any]:
        """The journal line of a move, without its place in the chain; `row` is the row before it."""
        body: dict[str, Any] = {"at_utc": at_utc, "run": run, "what": move.what}
        if move.key is not None:
            body |= {"machine": move.key.machine, "resource": move.key.resource}
            if move.entry is not None:
                body |= {"kind": move.entry.kind, "set": _difference(row, move.entry)}
        if move.machine is not None:
            body |= {"machine": move.machine, "machine_id": move.machine_id}
        if move.outputs is not None:
            body["outputs"] = dict(move.outputs)
        if move.note:
            body["note"] = move.note
        if move.facts:
            body["facts"] = dict(move.facts)
        return body

    def take(self, move: Transition, body: Mapping[str, Any]) -> None:
        """Apply a move whose line is durable."""
        if move.key is not None and move.entry is not None:
            self.rows[move.key] = move.entry
            self.dirty.add(move.key.machine)
        elif move.key is not None and move.what in GONE:
            self.rows.pop(move.key, None)
            self.dirty.add(move.key.machine)
        self._general(body)

    def replay(self, line: Mapping[str, Any]) -> None:
        """Apply a line read from the journal; words and keys of a newer version are passed over."""
        if "resource" in line:
            key = Key(line["resource"], line["machine"])
            if "set" in line:
                self.rows[key] = _merged(self.rows.get(key), key, line)
                self.dirty.add(key.machine)
            elif line["what"] in GONE:
                self.rows.pop(key, None)
                self.dirty.add(key.machine)
        self._general(line)

    def _general(self, line: Mapping[str, Any]) -> None:
        """What a line says of the run and of a machine, not of a row."""
        if line.get("machine_id") is not None:
            self.machine_ids[line["machine"]] = line["machine_id"]
            self.dirty.add(line["machine"])
        if line["what"] in RUN_WORDS:
            self.last_run, self.last_run_utc = line["run"], line["at_utc"]
            self.manifest = line.get("facts", {}).get("manifest", self.manifest)
        if "outputs" in line:
            self.outputs = dict(line["outputs"])


def _difference(old: Entry | None, new: Entry) -> dict[str, Any]:
    """What must be written to get from the old row to the new one; null removes."""
    changed: dict[str, Any] = {}
    base = old or Entry(new.key, new.kind)
    if new.in_force is not base.in_force and new.in_force != base.in_force:
        changed["in_force"] = None if new.in_force is None else codec.result_to_json(new.in_force)
    if new.current is not base.current and new.current != base.current:
        changed["current"] = None if new.current is None else codec.current_to_json(new.current)
    if new.extra != base.extra:
        changed["extra"] = dict(new.extra)
    return changed


def _merged(old: Entry | None, key: Key, line: Mapping[str, Any]) -> Entry:
    changed = line["set"]
    entry = replace(old, kind=line["kind"]) if old is not None else Entry(key, line["kind"])
    if "in_force" in changed:
        value = changed["in_force"]
        entry = replace(entry, in_force=None if value is None else codec.result_from_json(value))
    if "current" in changed:
        value = changed["current"]
        entry = replace(entry, current=None if value is None else codec.current_from_json(value))
    return replace(entry, extra=changed["extra"]) if "extra" in changed else entry
