"""Rows of any content survive the journal and the lock files; the files are YAML; a replay equals what was in memory."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Current, Entry, Origin, OutputProof, Result, Status
from albor_pipeline.state import codec
from albor_pipeline.state.folder import StateFolder, Transition

text = st.text(st.characters(codec=None), max_size=12)
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
numbers = st.integers(0, 2**53) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
)
small = st.dictionaries(text, text, max_size=3)
unknown = st.dictionaries(text.map(lambda key: f"x-{key}"), values, max_size=2)
prints = st.builds(Fingerprint, st.dictionaries(text, small, max_size=3), st.lists(text, max_size=2).map(tuple))
proofs = st.builds(OutputProof, st.none() | st.just("ab" * 32), st.integers(0, 9), st.integers(0, 2**60))
results = st.builds(
    Result,
    fingerprint=prints,
    outputs=st.dictionaries(text, proofs, max_size=2),
    run=text,
    at_utc=text,
    seconds=numbers,
    attempt=st.integers(0, 99),
    origin=st.sampled_from(Origin),
    observed=small,
    summary=st.dictionaries(text, values, max_size=3),
    extra=unknown,
)
currents = st.builds(
    Current,
    fingerprint=prints,
    run=text,
    attempt=st.integers(0, 99),
    since_utc=text,
    status=st.sampled_from(Status),
    exit_class=st.none() | st.just("oom"),
    detail=text,
    log=text,
    ended_utc=st.none() | st.just("2026-03-02T14:10:02.000Z"),
    extra=unknown,
)
keys = st.builds(Key, names, st.sampled_from(["local", "gpu/1", "é"]))
entries = st.builds(Entry, keys, text, st.none() | results, st.none() | currents, unknown)


@given(entries)
def test_a_row_survives_its_text(entry: Entry) -> None:
    line = codec.dumps(codec.entry_to_json(entry))
    assert "\n" not in line
    assert codec.entry_from_json(json.loads(line.encode()), entry.key.machine) == entry


@given(st.dictionaries(text, values, max_size=4))
def test_a_line_means_the_same_as_yaml_and_as_json(value: dict[str, Any]) -> None:
    line = codec.dumps(value)
    assert json.loads(line) == value
    assert same(yaml.safe_load(f"- {line}\n"), [value])


def same(read: Any, meant: Any) -> bool:
    """Equal, but for floats that YAML 1.1 takes for texts because they have no dot (`1e-07`)."""
    if isinstance(meant, dict):
        return (
            isinstance(read, dict) and read.keys() == meant.keys() and all(same(read[key], meant[key]) for key in meant)
        )
    if isinstance(meant, list):
        return isinstance(read, list) and len(read) == len(meant) and all(map(same, read, meant))
    return bool(read == meant or (isinstance(meant, float) and isinstance(read, str) and float(read) == meant))


def test_numbers_that_json_lacks_become_texts() -> None:
    value = {"a": float("nan"), "b": [float("inf"), {"c": (-float("inf"), 1.5)}]}
    assert json.loads(codec.dumps(value)) == {"a": "NaN", "b": ["Infinity", {"c": ["-Infinity", 1.5]}]}


moves = st.one_of(
    entries.map(lambda entry: Transition("done", entry.key, entry)),
    keys.map(lambda key: Transition("forgotten", key)),
    keys.map(lambda key: Transition("attached", key, note="again")),
    st.builds(lambda name, text: Transition("machine-bound", machine=name, machine_id=text), names, names),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(moves, max_size=4) | st.just("snapshot") | st.just("reopen"), max_size=8))
def test_whatever_is_recorded_is_read_again(steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "state"
        folder = StateFolder.open(path, "p", write=True)
        for step in steps:
            if step == "snapshot":
                folder.snapshot()
            elif step == "reopen":
                folder.close()
                folder = StateFolder.open(path, "p", write=True)
            else:
                folder.record(step)
            if not folder.is_new:
                check(path, folder)
        folder.close()
        assert folder.audit().ok
        (path / "albor.lock.yaml").unlink(missing_ok=True)
        if not folder.is_new:
            check(path, folder)


def check(path: Path, folder: StateFolder) -> None:
    with StateFolder.open(path, "p", write=False) as read:
        assert dict(read.state.entries) == dict(folder.state.entries)
        assert replace(read.state, entries={}) == replace(folder.state, entries={})
        assert read.head() == folder.head()
