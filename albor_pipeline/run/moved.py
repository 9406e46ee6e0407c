"""Moves: rows of the state under the names that resources and machines have now. Decides nothing and touches no machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from albor_pipeline.errors import ManifestError
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Entry, State, Status
from albor_pipeline.state.folder import StateFolder, Transition


def moves(manifest: Manifest, entries: Mapping[Key, Entry]) -> dict[Key, Key]:
    """Old key -> new key for every row that a `moved` names; one whose new name has a row already stays."""
    if not manifest.moved:
        return {}
    resources = {item.before: item.to for item in manifest.moved if item.what == "resource"}
    machines = {item.before: item.to for item in manifest.moved if item.what == "machine"}
    found: dict[Key, Key] = {}
    for key, entry in entries.items():
        new = Key(resources.get(key.resource, key.resource), machines.get(key.machine, key.machine))
        if new != key and new not in entries and new.resource in manifest.resources and not _runs(entry):
            found[key] = new
    return found


def check(manifest: Manifest, entries: Mapping[Key, Entry]) -> None:
    """Raise ManifestError when an attempt runs under an old name: it could not be found under the new one."""
    for item in manifest.moved:
        for key, entry in entries.items():
            if item.before in key and _runs(entry):
                message = f"`{key.resource}` runs on {key.machine} under its old name"
                note = "wait for its end, or cancel it, with the manifest as it was; then move it"
                raise ManifestError.of("moved-running", message, note, span=item.span)


def _runs(entry: Entry) -> bool:
    return entry.current is not None and bool(entry.current.attempt) and entry.current.status is Status.RUNNING


def seen(state: State, renamed: Mapping[Key, Key]) -> State:
    """The state as it is after the moves, for a reader that records nothing."""
    if not renamed:
        return state
    rows = {renamed.get(key, key): entry for key, entry in state.entries.items()}
    return replace(state, entries={key: replace(entry, key=key) if entry.key != key else entry for key, entry in rows.items()})


def record(folder: StateFolder, renamed: Mapping[Key, Key]) -> None:
    """Make the moves durable: the new row first, so that a power cut between the two loses nothing."""
    rows = folder.state.entries
    pairs = [(old, new, rows[old]) for old, new in sorted(renamed.items())]
    folder.record(
        [
            step
            for old, new, entry in pairs
            for step in (
                Transition("moved", new, replace(entry, key=new), note=f"was {old}"),
                Transition("forgotten", old, note=f"is {new}"),
            )
        ]
    )
