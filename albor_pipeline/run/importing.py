"""Import: what forjar recorded as converged, and what is still so, becomes the recorded state. Runs no task and changes no machine."""

from __future__ import annotations

from pathlib import Path

from albor_pipeline.errors import ManifestError
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.observed import Tree
from albor_pipeline.model.plan import Action
from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Entry, Origin, OutputProof, Result
from albor_pipeline.plan.decide import Decision
from albor_pipeline.plan.judge import Judge, Options
from albor_pipeline.resources.task import Task
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
