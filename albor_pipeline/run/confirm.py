"""Checks: commands that a manifest wants to end as expected after a fully successful run. They warn and change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from albor_pipeline.errors import AlborError
from albor_pipeline.model.events import NoteEvent
from albor_pipeline.model.manifest import Check
from albor_pipeline.run.converge import printed
from albor_pipeline.run.logs import keep
from albor_pipeline.transport.client import AgentError

if TYPE_CHECKING:
    from albor_pipeline.run.workers import Run

LIMIT_S = 60.0


def confirm(run: Run) -> dict[str, str]:
    """What each check found: `ok`, or what was not as expected; each is told as it ends, and what a failed one printed is kept."""
    found: dict[str, str] = {}
    checks = run.manifest.checks
    run.fleet.open(sorted({check.machine for check in checks}))
    for check in checks:
        found[check.name], said = (run.vault.mask(text) for text in _one(check, run))
        log = keep(run, run.state.check_log_path(run.id, check.name), said, f"check {check.name}")
        about = f" ({check.description})" if check.description else ""
        word = "check" if found[check.name] == "ok" else "warning: check"
        run.report(NoteEvent(f"{word} {check.name} on {check.machine}: {found[check.name]}{about}{f', log: {log}' if log else ''}"))
    return found


def _one(check: Check, run: Run) -> tuple[str, str]:
    fleet = run.fleet
    if check.machine not in fleet.agents:
        return fleet.errors.get(check.machine, "the machine does not answer"), ""
    try:
        result = fleet.agents[check.machine].request("sh", script=check.command, timeout_s=LIMIT_S)
    except (AgentError, AlborError) as error:
        return str(error), ""
    if result.get("exit") == check.expect_exit:
        return "ok", ""
    ended = "timed out" if result.get("timed_out") else f"exit {result.get('exit')}"
    said, last = printed(result)
    lines = last.splitlines()
    return f"{ended}, {check.expect_exit} wanted" + (f": {lines[-1]}" if lines else ""), said
