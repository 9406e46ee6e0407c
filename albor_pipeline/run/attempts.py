"""Attempt objects as the agent sends them, turned into values of the model. Trusts no field to be there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.model.attempt import Attempt, Exit, ExitClass, Liveness
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.observed import FileChange, Tree, Verified
from albor_pipeline.model.state import Entry, Origin, OutputProof, Result, State


def attempt_of(raw: Mapping[str, Any]) -> Attempt:
    """The model's Attempt of one attempt object."""
    end = raw.get("exit")
    return Attempt(
        resource=str(raw.get("resource", "")),
        number=int(raw.get("number", 0)),
        fingerprint=str(raw.get("fingerprint", "")),
        folder=str(raw.get("folder", "")),
        lineage=str(raw.get("lineage", "")),
        run=str(raw.get("run", "")),
        liveness=Liveness(raw.get("liveness", "unknown")),
        started_utc=str(raw.get("started_utc", "")),
        acked=bool(raw.get("acked", False)),
        same_boot=bool(raw.get("same_boot", True)),
        exit=exit_of(end) if end else None,
        progress=raw.get("progress") or {},
        parts=raw.get("parts") or {},
    )


def known_attempts(state: State) -> dict[str, dict[str, Any]]:
    """What hello need not tell of each machine: by resource the number, and the part of the fingerprint, of the attempt in force."""
    named: dict[str, dict[str, tuple[int, str]]] = {name: {} for name in state.machine_ids}
    for key, entry in state.entries.items():
        made = entry.in_force
        if made is not None and made.origin in (Origin.MADE, Origin.ADOPTED) and made.attempt and key.machine in named:
            named[key.machine][key.resource] = (made.attempt, made.fingerprint.digest(digest_bytes)[:12])
    return {name: {"machine_id": state.machine_ids[name], "attempts": attempts} for name, attempts in named.items()}


def recorded(entry: Entry, lineage: str) -> Attempt:
    """The attempt that made what is in force, as far as a plan looks at it: acknowledged, and ended well."""
    made = entry.in_force
    assert made is not None
    end = Exit(ExitClass.OK, 0, "", made.seconds, made.at_utc, made.outputs, made.summary)
    return Attempt(
        entry.key.resource, made.attempt, "", "", lineage, made.run, Liveness.ENDED, "", acked=True, exit=end, parts=made.fingerprint.parts
    )


def exit_of(raw: Mapping[str, Any]) -> Exit:
    """The proven end of an attempt."""
    return Exit(
        exit_class=ExitClass(raw.get("class", "error")),
        code=raw.get("code"),
        detail=str(raw.get("detail") or ""),
        seconds=float(raw.get("seconds") or 0.0),
        at_utc=str(raw.get("at_utc") or ""),
        outputs={path: proof_of(proof) for path, proof in (raw.get("outputs") or {}).items()},
        summary=raw.get("summary") or {},
    )


def proof_of(raw: Mapping[str, Any]) -> OutputProof:
    """One digested output."""
    return OutputProof(raw.get("root"), int(raw.get("files") or 0), int(raw.get("size_bytes") or 0))


def tree_of(raw: Mapping[str, Any]) -> Tree:
    """One probed path."""
    error = str((raw.get("error") or {}).get("message", ""))
    return Tree(raw.get("root"), int(raw.get("files") or 0), int(raw.get("size_bytes") or 0), str(raw.get("sig") or ""), error)


def verified_of(raw: Mapping[str, Any]) -> Verified:
    """One recorded output as compared by the agent."""
    changes = (
        FileChange(str(item["path"]), str(item["what"]), item.get("recorded"), item.get("found"))
        for item in raw.get("changes") or ()
    )
    return Verified(bool(raw.get("same")), tuple(changes), int(raw.get("more") or 0))


def result_of(attempt: Attempt, origin: Origin) -> Result:
    """The result that a well-ended attempt proves."""
    end = attempt.exit
    if end is None or not end.ok:
        raise ValueError(f"attempt {attempt.number} of {attempt.resource} has no good end")
    return Result(
        fingerprint=Fingerprint(attempt.parts),
        outputs=end.outputs,
        run=attempt.run,
        at_utc=end.at_utc,
        seconds=end.seconds,
        attempt=attempt.number,
        origin=origin,
        summary=end.summary,
    )
