"""The JSON of every command: one versioned object from the same values that make the text. Decides nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from albor_pipeline.errors import AlborError, Diagnostic
from albor_pipeline.model.addresses import shown
from albor_pipeline.model.events import RunReport
from albor_pipeline.model.plan import Action, Plan, Step
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Entry, OutputProof, State

VERSION = 1
Document = dict[str, Any]


def text(document: Mapping[str, Any]) -> str:
    """One object as text: two spaces, keys in the order given."""
    return json.dumps(document, indent=2, ensure_ascii=False, default=str)


def head(what: str) -> Document:
    """The first keys of every document."""
    return {"version": VERSION, "what": what}


def of_diagnostic(item: Diagnostic) -> Document:
    """One problem with its place."""
    place = None
    if item.span is not None:
        place = {"file": item.span.source.name, "line": item.span.line, "column": item.span.column}
    texts = {"message": shown(item.message), "at": place, "label": shown(item.label), "notes": [shown(note) for note in item.notes]}
    return {"level": item.level, "code": item.code, **texts}


def of_error(error: AlborError) -> Document:
    """An error that ended a command."""
    return {**head("error"), "exit_code": error.exit_code, "diagnostics": [of_diagnostic(item) for item in error.diagnostics]}


def of_plan(plan: Plan) -> Document:
    """A plan; `to_create`, `to_update`, `to_destroy`, `unchanged` and `changes` are named as forjar's readers expect."""
    executes = [step for step in plan.steps if step.action.executes]
    creating = (Action.CREATE, Action.RUN)
    return {
        **head("plan"),
        "name": plan.pipeline,
        "manifest": plan.manifest,
        "state_of_run": plan.last_run,
        "to_create": sum(step.action in creating for step in executes),
        "to_update": sum(step.action not in creating for step in executes),
        "to_destroy": sum(step.action is Action.DESTROY for step in plan.steps),
        "unchanged": len(plan.steps) - len(plan.changes),
        "execution_order": [str(step.key) for step in plan.steps],
        "steps": [of_step(step) for step in plan.steps],
        "unreachable": dict(plan.unreachable),
        "longest_chain": {"steps": [str(key) for key in plan.longest_chain], "seconds": plan.longest_chain_s},
        "diagnostics": [of_diagnostic(item) for item in plan.diagnostics],
    }


def of_step(step: Step) -> Document:
    """One step."""
    return {
        "resource_id": step.key.resource,
        "machine": step.key.machine,
        "resource_type": step.kind,
        "action": step.action.name.lower(),
        "allowed": [action.name.lower() for action in step.allowed],
        "reason": {"code": step.reason.code, "text": step.reason.text},
        "depends_on": [str(key) for key in step.after],
        "fingerprint": step.fingerprint.parts if step.fingerprint else None,
        "unknown_inputs": list(step.fingerprint.unknown) if step.fingerprint else [],
        "moves": [{"path": move.path, "from": move.source, "size_bytes": move.size_bytes} for move in step.moves],
        "seconds": step.seconds,
    }


def of_proof(proof: OutputProof) -> Document:
    """One output."""
    return {"digest": f"blake3:{proof.root}" if proof.root else None, "files": proof.files, "size_bytes": proof.size_bytes}


def of_report(report: RunReport) -> Document:
    """How a run ended."""
    return {
        **head("apply"),
        "run": report.run,
        "folder": report.folder,
        "counts": dict(report.counts),
        "interrupted": report.interrupted,
        "still_running": [str(key) for key in report.still_running],
        "broken": report.broken or None,
        "stale": list(report.stale),
        "artifacts": [
            {"resource": key.resource, "machine": key.machine, "path": path, **of_proof(proof)}
            for key, path, proof in report.outputs
        ],
        "moves": [
            {
                "path": move.path, "from": move.source, "to": move.target, "files": move.files, "size_bytes": move.size_bytes,
                "seconds": round(move.seconds, 3), "way": move.way, **({"not_direct": move.why} if move.why else {}),
            }
            for move in report.moves
        ],
        "summaries": {str(key): dict(summary) for key, summary in report.summaries},
        "outputs": dict(report.values),
        "checks": dict(report.checks),
    }


def of_entry(key: Key, kind: str, entry: Entry | None, progress: Mapping[str, Any] | None = None) -> Document:
    """One row of the state."""
    result = entry.in_force if entry else None
    current = entry.current if entry else None
    return {
        "resource_id": key.resource,
        "machine": key.machine,
        "resource_type": kind,
        "status": entry.status.value if entry else "pending",
        "since": (current.since_utc if current else result.at_utc if result else None),
        "run": current.run if current else result.run if result else None,
        "attempt": current.attempt if current else result.attempt if result else None,
        "exit_class": current.exit_class if current else None,
        "detail": current.detail if current else None,
        "log": current.log if current else None,
        "origin": result.origin.value if result else None,
        "seconds": result.seconds if result else None,
        "outputs": {path: of_proof(proof) for path, proof in result.outputs.items()} if result else {},
        "progress": dict(progress or {}),
    }


def of_status(pipeline: str, state: State, rows: list[Document]) -> Document:
    """All rows."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["status"]] = counts.get(row["status"], 0) + 1
    known = {"name": pipeline, "run": state.last_run, "lineage": state.lineage, "serial": state.serial}
    return {**head("status"), **known, "counts": counts, "resources": rows}
