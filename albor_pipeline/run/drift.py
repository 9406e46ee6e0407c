"""Drift: recorded results compared with what is there. Makes no plan and repairs nothing."""

from __future__ import annotations

from typing import Any

from albor_pipeline.model.observed import FileChange
from albor_pipeline.model.resource import Key
from albor_pipeline.plan.decide import is_ignored
from albor_pipeline.plan.reasons import difference, shown
from albor_pipeline.plan.refusals import check_supported
from albor_pipeline.run.observe import Observer
from albor_pipeline.run.session import Session

Finding = dict[str, Any]


def findings(session: Session, only: frozenset[Key] | None, *, deep: bool) -> tuple[list[Key], list[Finding]]:
    """The converged resources that were looked at, and what is not as recorded of each; ManifestError as for a plan."""
    entries = session.state.entries
    keys = [key for key in session.graph.order if key in entries and entries[key].in_force and (only is None or key in only)]
    check_supported(session.manifest, keys)
    observer = Observer(session.manifest, session.graph, session.fleet, session.vault, session.folder.root, deep=deep)
    observer.read_project(keys)
    session.connect(keys)
    session.vault.check()
    observer.ask(keys, session.state)
    observed = observer.observe(keys)
    found: list[Finding] = []
    for key in keys:
        if key.machine in session.fleet.errors:
            found.append(_finding(session, key, "unknown", f"{session.fleet.errors[key.machine]}; nothing is assumed"))
            continue
        result = entries[key].in_force
        for path in result.outputs if result else ():
            seen = observed.outputs.get((key, path))
            for change in seen.changes if seen and not seen.same else ():
                more = {"field": change.path, "recorded": change.recorded, "found": change.found}
                found.append({**_finding(session, key, "drifted", _text(change)), **more})
            if seen and seen.more:
                found.append(_finding(session, key, "drifted", f"{path}: {seen.more} more"))
        look = observed.infra.get(key)
        if look is not None and look.error is not None:
            found.append(_finding(session, key, "unknown", f"{look.error}; nothing is assumed"))
        elif look is not None and result is not None:
            ignored = session.manifest.resources[key.resource].ignore_drift
            for name, value in result.observed.items():
                if look.values.get(name) != value and not is_ignored(name, ignored):
                    text = f"{name}: recorded {shown(value)}, found {shown(look.values.get(name, 'nothing'))}"
                    more = {"field": name, "recorded": value, "found": look.values.get(name)}
                    found.append({**_finding(session, key, "drifted", text), **more})
    return keys, found


def _text(change: FileChange) -> str:
    return f"{change.path}: {difference(change) if change.recorded and change.found else change.what}"


def _finding(session: Session, key: Key, what: str, detail: str) -> Finding:
    kind = session.manifest.resources[key.resource].kind
    return {"what": what, "resource": key.resource, "resource_type": kind, "machine": key.machine, "detail": detail}
