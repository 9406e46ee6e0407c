"""Edits of the state by hand: a row renamed, forgotten, or another result put in force; each one journaled. Runs no task."""

from __future__ import annotations

from dataclasses import replace

from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.errors import StateError
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Entry, Status
from albor_pipeline.run import moved
from albor_pipeline.run.session import Session
from albor_pipeline.run.stored import follow, kept_of
from albor_pipeline.state.folder import Transition
from albor_pipeline.transport.client import AgentError


def key_of(session: Session, name: str) -> Key:
    """The key of RESOURCE or RESOURCE@MACHINE that has a row; raises StateError when none or several do."""
    resource, _, machine = name.partition("@")
    found = [key for key in session.state.entries if key.resource == resource and machine in ("", key.machine)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise StateError.of("no-row", f"nothing is recorded of `{name}`", "what is: albor-pipeline state list")
    raise StateError.of("which-row", f"`{name}` is recorded on {', '.join(sorted(key.machine for key in found))}", f"name one: {found[0]}")


def rename(session: Session, before: str, after: str) -> tuple[Key, Key]:
    """Give a row another name; raises StateError while it runs, and when the new name is taken."""
    old = key_of(session, before)
    resource, _, machine = after.partition("@")
    new = Key(resource, machine or old.machine)
    _refuse_running(session, old)
    if new in session.state.entries:
        raise StateError.of("row-taken", f"{new} is recorded already", "remove that row first, or choose another name")
    session.fleet.open([old.machine] if old.machine in session.manifest.machines else [])
    follow(session.fleet, {old: new})
    moved.record(session.folder, {old: new})
    return old, new


def forget(session: Session, name: str) -> Key:
    """Drop a row; what it is about stays where it is. Raises StateError while it runs."""
    key = key_of(session, name)
    _refuse_running(session, key)
    session.folder.record([Transition("forgotten", key, note="by hand")])
    return key


def _refuse_running(session: Session, key: Key) -> None:
    current = session.state.entries[key].current
    if current is not None and current.attempt and current.status is Status.RUNNING:
        raise StateError.of("row-running", f"{key} is recorded as running", f"wait for its end, or: albor-pipeline cancel {key.resource}")


def use(session: Session, name: str, result: str) -> tuple[Key, str]:
    """Put another result of a task back and in force: (key, what was moved out of its way). Raises StateError, UnreachableError."""
    keys = [key for key in session.graph.order if name in (key.resource, str(key))]
    if len(keys) != 1:
        raise StateError.of("which-row", f"`{name}` names {len(keys)} tasks of the manifest", "give RESOURCE@MACHINE")
    key = keys[0]
    session.connect(keys)
    session.take_leases()
    agent = session.fleet.require(key.machine)
    found = [one for one in kept_of(session.fleet, key) if one.id.startswith(result)]
    if len(found) != 1:
        hint = f"those that are kept: albor-pipeline store show {key.resource}"
        raise StateError.of("no-result", f"{len(found)} results of {key} begin with `{result}`", hint)
    chosen = found[0]
    fingerprint = chosen.result.fingerprint.digest(digest_bytes)
    try:
        reply = agent.request("restore", resource=key.resource, fingerprint=fingerprint, result=chosen.id, run=chosen.result.run)
    except AgentError as error:
        raise StateError.of("not-restored", f"the result {chosen.id} of {key} cannot be put back: {error.message}") from None
    entry = session.state.entries.get(key) or Entry(key, "task")
    note = f"result {chosen.id} of run {chosen.result.run}"
    session.folder.record([Transition("used", key, replace(entry, in_force=chosen.result, current=None), note=note)])
    return key, ", ".join(reply["kept"])
