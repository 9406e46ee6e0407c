"""Rebuild: a state folder made again from the proven attempts on the machines. Runs nothing."""

from __future__ import annotations

from pathlib import Path

from albor_pipeline.errors import StateError
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Entry, Origin
from albor_pipeline.run.attempts import attempt_of, result_of
from albor_pipeline.run.fleet import Fleet, newest_lineage
from albor_pipeline.state.folder import StateFolder


def rebuild(manifest: Manifest, state_dir: Path) -> list[tuple[Key, str]]:
    """What was found of each resource; raises StateError when a machine does not answer.

    The journal's old segments stay.

    Later results win. A machine that does not answer would lose its results in silence, so that is refused.
    """
    with Fleet(manifest, "") as fleet:
        fleet.open(sorted(manifest.machines))
        if fleet.errors:
            name, why = next(iter(fleet.errors.items()))
            raise StateError.of("rebuild", f"{name} does not answer: {why}", "its results would be lost; try again when it does")
        newest = newest_lineage(manifest, fleet)
        if newest is None:
            raise StateError.of("rebuild", "no machine holds an attempt of this manifest", "there is nothing to rebuild from")
        lineage = newest[0]
        entries: dict[Key, Entry] = {}
        found: dict[Key, str] = {}
        for machine, agent in fleet.agents.items():
            attempts = sorted((attempt_of(raw) for raw in agent.hello["attempts"]), key=lambda attempt: attempt.number)
            for attempt in attempts:
                if attempt.lineage == lineage and attempt.exit is not None and attempt.exit.ok:
                    key = Key(attempt.resource, machine)
                    entries[key] = Entry(key, "task", result_of(attempt, Origin.ADOPTED))
                    found[key] = f"attempt {attempt.number} of run {attempt.run}, ended {attempt.exit.at_utc[:16]}"
        ids = {name: str(agent.hello["machine_id"]) for name, agent in fleet.agents.items()}
        heads = {name: agent.hello["heads"].get(lineage) for name, agent in fleet.agents.items()}
        known = {name: head for name, head in heads.items() if head}
        rows = list(entries.values())
        folder = StateFolder.rebuild(state_dir, manifest.pipeline, lineage, rows, heads=known, machine_ids=ids)
        folder.close()
    return sorted(found.items())

