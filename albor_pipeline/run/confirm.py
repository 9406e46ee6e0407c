"""Checks: commands that a manifest wants to end as expected after a fully successful run. They warn and change nothing."""

from __future__ import annotations

from albor_pipeline.errors import AlborError
from albor_pipeline.model.events import NoteEvent, Reporter
from albor_pipeline.model.manifest import Check, Manifest
from albor_pipeline.run.fleet import Fleet
from albor_pipeline.transport.client import AgentError

LIMIT_S = 60.0


def confirm(manifest: Manifest, fleet: Fleet, report: Reporter) -> dict[str, str]:
    """What each check found: `ok`, or what was not as expected; each is told as it ends."""
    found: dict[str, str] = {}
    fleet.open(sorted({check.machine for check in manifest.checks}))
    for check in manifest.checks:
        found[check.name] = _one(check, fleet)
        about = f" ({check.description})" if check.description else ""
        word = "check" if found[check.name] == "ok" else "warning: check"
        report(NoteEvent(f"{word} {check.name} on {check.machine}: {found[check.name]}{about}"))
    return found


def _one(check: Check, fleet: Fleet) -> str:
    if check.machine not in fleet.agents:
        return fleet.errors.get(check.machine, "the machine does not answer")
    try:
        result = fleet.agents[check.machine].request("sh", script=check.command, timeout_s=LIMIT_S)
    except (AgentError, AlborError) as error:
        return str(error)
    if result.get("exit") == check.expect_exit:
        return "ok"
    ended = "timed out" if result.get("timed_out") else f"exit {result.get('exit')}"
    lines = str(result.get("stderr") or result.get("stdout") or "").strip().splitlines()
    return f"{ended}, {check.expect_exit} wanted" + (f": {lines[-1]}" if lines else "")
