"""Rebuild: a state folder made again from the proven attempts on the machines. Runs nothing; the old folder is kept by rename."""

from __future__ import annotations

from pathlib import Path

from albor_pipeline.errors import StateError
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Entry, Origin
from albor_pipeline.run.attempts import attempt_of, result_of
from albor_pipeline.run.fleet import Fleet
from albor_pipeline.state.folder import StateFolder


def rebuild(manifest: Manifest, state_dir: Path) -> tuple[Path | None, list[tuple[Key, str]]]:
    """The kept old folder, and what was found of each resource; raises StateError when a machine does not answer.

    Later results win. A machine that does not answer would lose its results in silence, so that is refused.
    """
    with Fleet(manifest, lineage_on(manifest)) as fleet:
        fleet.open(sorted(manifest.machines))
        if fleet.errors:
            name, why = next(iter(fleet.errors.items()))
            raise StateError.of("rebuild", f"{name} does not answer: {why}", "its results would be lost; try again when it does")
        entries: dict[Key, Entry] = {}
        found: dict[Key, str] = {}
        for machine, agent in fleet.agents.items():
            attempts = sorted((attempt_of(raw) for raw in agent.hello["attempts"]), key=lambda attempt: attempt.number)
            for attempt in attempts:
                if attempt.exit is not None and attempt.exit.ok:
                    key = Key(attempt.resource, machine)
                    entries[key] = Entry(key, "task", result_of(attempt, Origin.ADOPTED))
                    found[key] = f"attempt {attempt.number} of run {attempt.run}, ended {attempt.exit.at_utc[:16]}"
        ids = {name: str(agent.hello["machine_id"]) for name, agent in fleet.agents.items()}
        heads = {name: agent.hello.get("head") for name, agent in fleet.agents.items()}
        kept = StateFolder.rebuild(state_dir, manifest.name, fleet.lineage, entries, ids, heads)
    return kept, sorted(found.items())


def lineage_on(manifest: Manifest) -> str:
    """The lineage that the machines remember, or nothing when they remember none."""
    with Fleet(manifest, "") as fleet:
        fleet.open(sorted(manifest.machines))
        for agent in fleet.agents.values():
            head = agent.hello.get("head")
            if head and head.get("lineage"):
                return str(head["lineage"])
            attempts = sorted(agent.hello["attempts"], key=lambda raw: str(raw["started_utc"]))
            if attempts:
                return str(attempts[-1]["lineage"])
    return ""
