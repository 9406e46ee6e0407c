"""Rows of the state as JSON mappings and back; keys that this version does not know are kept. Knows no files.

A text made here is one line, and is JSON and YAML 1.1 at once: JSON is not quite a subset of YAML (surrogate pairs,
unprintable characters, line separators), so those few characters are written as escapes.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Current, Entry, Origin, OutputProof, Result, Status

Json = Mapping[str, Any]

_RESULT = frozenset(["fingerprint", "outputs", "run", "at_utc", "seconds", "attempt", "origin", "observed", "summary", "removal"])
_CURRENT = frozenset(
    ["fingerprint", "run", "attempt", "since_utc", "status", "exit_class", "detail", "log", "ended_utc", "removal"]
)
_ENTRY = frozenset(["resource", "kind", "in_force", "current"])

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_NOT_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


def dumps(value: Json) -> str:
    """One line of JSON that is YAML too; numbers that JSON lacks become the texts `NaN`, `Infinity`, `-Infinity`."""
    try:
        text = _encode(value)
    except ValueError:
        text = _encode(_finite(value))
    if text.isascii() and "\x7f" not in text:
        return text
    return _NOT_YAML.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def entry_to_json(entry: Entry) -> dict[str, Any]:
    """One row; the machine is left out, because the file or the journal line around it names it."""
    data: dict[str, Any] = {"resource": entry.key.resource, "kind": entry.kind}
    if entry.in_force is not None:
        data["in_force"] = result_to_json(entry.in_force)
    if entry.current is not None:
        data["current"] = current_to_json(entry.current)
    return {**data, **entry.extra}


def entry_from_json(data: Json, machine: str) -> Entry:
    """The row back; ValueError, KeyError or TypeError when it is not one."""
    in_force, current = data.get("in_force"), data.get("current")
    return Entry(
        key=Key(data["resource"], machine),
        kind=data["kind"],
        in_force=None if in_force is None else result_from_json(in_force),
        current=None if current is None else current_from_json(current),
        extra=_rest(data, _ENTRY),
    )


def result_to_json(result: Result) -> dict[str, Any]:
    """A proven result; empty mappings are left out."""
    data: dict[str, Any] = {
        "fingerprint": fingerprint_to_json(result.fingerprint),
        "outputs": {
            path: {"root": proof.root, "files": proof.files, "size_bytes": proof.size_bytes}
            for path, proof in result.outputs.items()
        },
        "run": result.run,
        "at_utc": result.at_utc,
        "seconds": result.seconds,
        "attempt": result.attempt,
        "origin": result.origin.value,
    }
    if result.observed:
        data["observed"] = dict(result.observed)
    if result.summary:
        data["summary"] = dict(result.summary)
    if result.removal:
        data["removal"] = dict(result.removal)
    return {**data, **result.extra}


def result_from_json(data: Json) -> Result:
    """The result back."""
    return Result(
        fingerprint=fingerprint_from_json(data["fingerprint"]),
        outputs={
            path: OutputProof(proof["root"], proof["files"], proof["size_bytes"])
            for path, proof in data["outputs"].items()
        },
        run=data["run"],
        at_utc=data["at_utc"],
        seconds=data["seconds"],
        attempt=data["attempt"],
        origin=Origin(data["origin"]),
        observed=data.get("observed", {}),
        summary=data.get("summary", {}),
        removal=data.get("removal", {}),
        extra=_rest(data, _RESULT),
    )


def current_to_json(current: Current) -> dict[str, Any]:
    """An attempt that is under way or went wrong; what is not known yet is left out."""
    data: dict[str, Any] = {
        "fingerprint": fingerprint_to_json(current.fingerprint),
        "run": current.run,
        "attempt": current.attempt,
        "since_utc": current.since_utc,
        "status": current.status.value,
    }
    optional = {
        "exit_class": current.exit_class,
        "detail": current.detail,
        "log": current.log,
        "ended_utc": current.ended_utc,
        "removal": dict(current.removal),
    }
    data |= {name: value for name, value in optional.items() if value}
    return {**data, **current.extra}


def current_from_json(data: Json) -> Current:
    """The attempt back."""
    return Current(
        fingerprint=fingerprint_from_json(data["fingerprint"]),
        run=data["run"],
        attempt=data["attempt"],
        since_utc=data["since_utc"],
        status=Status(data["status"]),
        exit_class=data.get("exit_class"),
        detail=data.get("detail", ""),
        log=data.get("log", ""),
        ended_utc=data.get("ended_utc"),
        removal=data.get("removal", {}),
        extra=_rest(data, _CURRENT),
    )


def fingerprint_to_json(fingerprint: Fingerprint) -> dict[str, Any]:
    """The named parts; `unknown` only when there are any."""
    if fingerprint.unknown:
        return {"parts": fingerprint.parts, "unknown": list(fingerprint.unknown)}
    return {"parts": fingerprint.parts}


def fingerprint_from_json(data: Json) -> Fingerprint:
    """The parts back."""
    return Fingerprint(data["parts"], tuple(data.get("unknown", ())))


def _rest(data: Json, known: frozenset[str]) -> Json:
    return {key: value for key, value in data.items() if key not in known} if not data.keys() <= known else {}
