"""The lock files of forjar: which resource converged on which machine, by which declaration. Reads files; writes and decides nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.errors import Diagnostic, ManifestError, Problems, Span
from albor_pipeline.manifest.files import read_source
from albor_pipeline.manifest.nodes import Scalar, Table, Text, compose
from albor_pipeline.resources.task import Task

LOCK = "state.lock.yaml"
SIDECAR = ".b3"
SCHEMA = "1.0"
CONVERGED = "converged"


@dataclass(frozen=True)
class Row:
    """One resource of a lock; `digest` names the declaration that was applied."""

    resource: str
    kind: str
    status: str
    digest: str
    at_utc: str
    span: Span


@dataclass(frozen=True)
class Lock:
    """One lock file: one machine."""

    machine: str
    generator: str
    span: Span
    rows: tuple[Row, ...]


def read_locks(path: Path) -> list[Lock]:
    """The lock files at `path`: one file, a machine's folder, or a folder of those. Raises ManifestError with every problem."""
    files = [path] if not path.is_dir() else sorted([*path.glob(LOCK), *path.glob(f"*/{LOCK}")])
    if not files:
        raise ManifestError.of("no-lock", f"there is no forjar lock in {path}", f"its name is {LOCK}, one folder for each machine")
    problems = Problems()
    locks = [lock for file in files for lock in _read(file, problems)]
    problems.raise_if_errors()
    return locks


def _read(path: Path, problems: Problems) -> Iterator[Lock]:
    try:
        source = read_source(path)
        sidecar = path.with_name(path.name + SIDECAR)
        recorded = sidecar.read_text(encoding="ascii", errors="replace").split() if sidecar.is_file() else []
    except ManifestError as error:
        problems.extend(error.diagnostics)
        return
    except OSError as error:
        problems.error("unreadable", f"{path}{SIDECAR}: {(error.strerror or 'cannot be read').lower()}")
        return
    if recorded and recorded[0] != digest_bytes(source.text.encode()):
        note = f"if that was on purpose, remove {path}{SIDECAR}"
        problems.error("lock-changed", f"{path} is not as forjar wrote it", None, "", (note,))
        return
    text = Text(source)
    root = compose(text, problems)
    if not isinstance(root, Table):
        if not problems.errors:
            problems.error("no-lock", f"{path} is no forjar lock: it holds no mapping")
        return
    yield from _lock(root, text, path, problems)


def _lock(root: Table, text: Text, path: Path, problems: Problems) -> Iterator[Lock]:
    schema, machine, resources = root.get("schema"), root.get("machine"), root.get("resources")
    if not isinstance(schema, Scalar) or not isinstance(machine, Scalar) or not isinstance(resources, Table):
        problems.error("no-lock", f"{path} is no forjar lock", text.span(0, 1), "", ("one has the keys schema, machine and resources",))
        return
    if schema.text != SCHEMA:
        problems.error("lock-newer", f"the lock has schema {schema.text}; only {SCHEMA} can be read", text.of(schema))
        return
    rows = []
    for name, (key, value) in resources.items.items():
        if isinstance(value, Table):
            fields = {word: _text(value, word) for word in ("type", "status", "hash", "applied_at")}
            rows.append(Row(name, fields["type"], fields["status"], fields["hash"], fields["applied_at"], text.of(key)))
        else:
            problems.error("no-lock", f"`{name}` must be a mapping, not {value.what}", text.of(value))
    yield Lock(machine.text, _text(root, "generator") or "forjar", text.of(machine), tuple(rows))


def _text(table: Table, word: str) -> str:
    node = table.get(word)
    return node.text if isinstance(node, Scalar) and not node.is_null else ""


def digest_of_task(task: Task) -> str:
    """How forjar names the declaration of a task: the values that were written and count, in its order, without their names."""
    written = [str(getattr(task, name)) for name in ("state", "name") if name in task.model_fields_set]
    values = ["task", *written, task.command or ""]
    return f"blake3:{digest_bytes(chr(0).join(values).encode(errors='surrogatepass'))}"


def unknown_machine(lock: Lock, known: Mapping[str, object]) -> Diagnostic:
    """The lock of a machine that the manifest does not declare."""
    message = f"this is the lock of machine `{lock.machine}`, which the manifest does not declare"
    return Diagnostic("error", "unknown-machine", message, lock.span, "", (f"declared machines: {', '.join(known)}",))
