"""Attempt objects as the agent sends them, turned into values of the model. Trusts no field to be there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from albor_pipeline.model.attempt import Attempt, Exit, ExitClass, Liveness
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.observed import FileChange, Tree, Verified
from albor_pipeline.model.state import Origin, OutputProof, Result


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
    return Verified(bool(raw.get("same")), tuple(changes))


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
