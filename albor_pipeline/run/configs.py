"""The configuration of a stage task: read, overridden by `set`, and flattened for the fingerprint. Knows no stage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from albor_pipeline.errors import Problems, Source, Span
from albor_pipeline.manifest.nodes import Node, Scalar, Sequence, Table, Text, compose
from albor_pipeline.model.resource import Resource
from albor_pipeline.plan.values import flat
from albor_pipeline.resources.fields import Quoted, typed
from albor_pipeline.resources.task import Task


@dataclass(frozen=True)
class StageConfig:
    """The values that the stage gets, as JSON text, and as canonical flat names for the fingerprint."""

    values: Mapping[str, Any]

    @property
    def text(self) -> str:
        return json.dumps(self.values, indent=2, ensure_ascii=False) + "\n"

    @property
    def parts(self) -> dict[str, str]:
        return flat(self.values)


def read_config(resource: Resource, machine: str, root: Path, problems: Problems) -> StageConfig:
    """The configuration of a stage task; what cannot be read is added to `problems` with its place."""
    task: Task = resource.fields_on(machine)
    values: Any = task.config
    if isinstance(values, str):
        span = resource.spans.get("config") or resource.span
        values = _read(root / values, values, problems, span)
    if not isinstance(values, Mapping):
        return StageConfig({})
    merged: dict[str, Any] = json.loads(json.dumps(values))
    for name, value in task.set.items():
        _assign(merged, name.split("."), value)
    return StageConfig(merged)


def _assign(values: dict[str, Any], names: list[str], value: Any) -> None:
    for name in names[:-1]:
        inner = values.setdefault(name, {})
        if not isinstance(inner, dict):
            inner = values[name] = {}
        values = inner
    values[names[-1]] = value


def _read(path: Path, name: str, problems: Problems, span: Span | None) -> Any:
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "it is not UTF-8 text"
        problems.error("config", f"the config `{name}` cannot be read: {why}", span)
        return None
    node = compose(Text(Source(name, content)), problems)
    if node is not None and not isinstance(node, Table):
        problems.error("config", f"the config `{name}` must be a mapping", span)
        return None
    return typed(_raw(node)) if node is not None else None


def _raw(node: Node) -> Any:
    if isinstance(node, Scalar):
        return Quoted(node.text) if node.quoted else node.text
    if isinstance(node, Sequence):
        return [_raw(item) for item in node.items]
    return {name: _raw(value) for name, (_, value) in node.items.items()}
