"""Import: what is found on the machines, or what forjar recorded and is still so, becomes the recorded state. Changes no machine."""

from __future__ import annotations

from pathlib import Path

from albor_pipeline.errors import Diagnostic, ManifestError
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.observed import Tree
from albor_pipeline.model.plan import Action
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Entry, Origin, OutputProof, Result
from albor_pipeline.plan import fingerprint
from albor_pipeline.plan.decide import Decision
from albor_pipeline.plan.judge import Judge, Options
from albor_pipeline.resources.registry import convergent
from albor_pipeline.resources.task import Task
from albor_pipeline.run.converge import removal
from albor_pipeline.run.forjar import CONVERGED, Lock, Row, digest_of_task, read_locks, unknown_machine
from albor_pipeline.run.session import Session, Wish
from albor_pipeline.state.folder import Transition, utc_now

Told = list[tuple[str, str, bool]]


def import_forjar(session: Session, path: Path) -> Told:
    """Record what holds; (resource, sentence, imported) for every row of the locks.

    What is recorded already stays as it is, so a lock counts once. Raises ManifestError when a lock cannot be used.
    """
    locks = read_locks(path)
    strangers = [unknown_machine(lock, session.manifest.machines) for lock in locks if lock.machine not in session.manifest.machines]
    if strangers:
        raise ManifestError(strangers)
    rows = {Key(row.resource, lock.machine): row for lock in locks for row in lock.rows}
    session.plan(Wish())
    importer = _Importer(session)
    told: dict[Key, tuple[str, bool]] = {}
    for key in session.graph.order:
        sentence = importer.take(key, rows.get(key))
        if key in rows:
            told[key] = (sentence or f"imported, applied {rows[key].at_utc[:16].replace('T', ' ')} by {_tool(locks, key)}", not sentence)
    left = {key: ("not declared any more", False) for key in rows if key not in told}
    session.folder.record(importer.moves)
    return [(str(key), *words) for key, words in {**told, **left}.items()]


def import_found(session: Session, kind: str, keys: frozenset[Key]) -> list[str]:
    """Record these resources, which are no tasks, as they are found; a sentence for each. Raises ManifestError and records nothing."""
    moves: list[Transition] = []
    told: list[str] = []
    problems: list[Diagnostic] = []
    session.plan(Wish(targets=keys))
    for key in sorted(keys):
        why = _not_importable(session, key, kind)
        if why:
            span = session.manifest.resources[key.resource].span
            problems.append(Diagnostic("error", "not-imported", f"`{key}` is not imported: {why}", span))
            continue
        seen, wanted = session.observed.infra[key], session.observed.wanted[key]
        values = {name: seen.values[name] for name in wanted if name in seen.values}
        assert session.observer is not None
        one = session.observer.instance(key)
        kept = removal(convergent(kind), one, before=True)
        parts = fingerprint.of_fields(values, convergent(kind).identity(one.fields))
        result = Result(parts, {}, "", utc_now(), origin=Origin.FOUND, observed=values, removal=kept)
        moves.append(Transition("imported", key, Entry(key, kind, result), "found on the machine"))
        off = [name for name in wanted if values.get(name) != wanted[name]]
        told.append(f"{key}: recorded as it is" + (f"; declared otherwise: {', '.join(sorted(off))}" if off else ""))
    if problems:
        raise ManifestError(problems)
    session.take_leases()
    session.folder.record(moves)
    return told


def _not_importable(session: Session, key: Key, kind: str) -> str:
    resource = session.manifest.resources[key.resource]
    if resource.kind != kind:
        return f"it is declared as a {resource.kind}, not as a {kind}"
    if kind == "task":
        return "a task's outputs are taken over by `accept`"
    if key in session.state.entries and session.state.entries[key].in_force is not None:
        return "it is recorded already"
    seen = session.observed.infra.get(key)
    if seen is None:
        return f"{key.machine} does not answer"
    return seen.error or ("" if seen.exists else f"there is none on {key.machine}")


def _tool(locks: list[Lock], key: Key) -> str:
    return next(lock.generator for lock in locks if lock.machine == key.machine)


class _Importer:
    """Goes through the resources in the order of the graph, so that what one made is known when the next is judged."""

    def __init__(self, session: Session) -> None:
        assert session.observer is not None
        self._session = session
        self._entries = session.folder.state.entries
        self._judge = Judge(session.manifest, session.graph, session.folder.state, session.observed, Options(), session.observer.inputs)
        self.moves: list[Transition] = []

    def take(self, key: Key, row: Row | None) -> str:
        """Import one row; why not, or nothing when it was."""
        decision, wanted = self._judge.judge(key)
        why = "recorded already" if key in self._entries else "" if row is None else self._why_not(key, row, decision, wanted)
        if row is None or why or wanted is None:
            self._judge.settle(key, decision)
            return why
        seen = self._session.observed.infra.get(key)
        at_utc, observed = row.at_utc or utc_now(), dict(seen.values) if seen else {}
        result = Result(wanted, self._proofs(key), "", at_utc, origin=Origin.FOUND, observed=observed)
        entry = Entry(key, self._session.manifest.resources[key.resource].kind, result)
        self.moves.append(Transition("imported", key, entry, f"from a forjar lock, {row.digest[:23]}"))
        self._judge.note(key, entry, settled=True)
        return ""

    def _why_not(self, key: Key, row: Row, decision: Decision, wanted: Fingerprint | None) -> str:
        resource = self._session.manifest.resources[key.resource]
        fields = resource.fields_on(key.machine)
        if row.status != CONVERGED:
            return f"not imported: forjar recorded it as {row.status or 'unknown'}"
        if row.kind != resource.kind:
            return f"not imported: it was a {row.kind} and is a {resource.kind}"
        if wanted is None or decision.action is Action.UNKNOWN:
            return f"not imported: {decision.reason.text}"
        if not isinstance(fields, Task):
            return "" if decision.action is Action.ADOPT else f"not imported: {decision.reason.text}"
        if fields.stage is not None or row.digest != digest_of_task(fields):
            return "not imported: it is declared otherwise than what forjar applied"
        if wanted.unknown:
            return f"not imported: its input {wanted.unknown[0]} is not known yet"
        gone = next((output.path for output in fields.outputs if not self._tree(key, output.path).found), None)
        return f"not imported: its output {gone} is not there" if gone is not None else ""

    def _tree(self, key: Key, path: str) -> Tree:
        return self._session.observed.inputs.get((key.machine, path), Tree(None))

    def _proofs(self, key: Key) -> dict[str, OutputProof]:
        fields = self._session.manifest.resources[key.resource].fields_on(key.machine)
        outputs = fields.outputs if isinstance(fields, Task) else ()
        trees = {output.path: (output, self._tree(key, output.path)) for output in outputs}
        return {path: OutputProof(None if out.volatile else tree.root, tree.files, tree.size_bytes) for path, (out, tree) in trees.items()}
