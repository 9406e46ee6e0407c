"""The wanted fingerprint of a resource, from what is declared and what was observed. Hashes nothing itself."""

from __future__ import annotations

from collections.abc import Mapping

from albor_pipeline.model.addresses import shown
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.observed import Observed
from albor_pipeline.model.resource import Key, Resource
from albor_pipeline.resources.task import Task


def of_task(resource: Resource, key: Key, observed: Observed, inputs: Mapping[str, str | None]) -> Fingerprint:
    """The parts of a task; `inputs` maps each path to its root digest, or to None while it is not known.

    An address counts without its password, as it is shown and recorded.
    """
    task: Task = resource.fields_on(key.machine)
    groups: dict[str, Mapping[str, str]] = {
        "command": _without_passwords(_command(task)),
        "config": _without_passwords(observed.configs.get(key, {})),
        "code": observed.code.get(key, {}),
        "env": _without_passwords(task.env),
        "python": observed.python.get(key, {}),
        "inputs": {path: root for path, root in inputs.items() if root is not None},
        "outputs": {output.path: "volatile" if output.volatile else "declared" for output in task.outputs},
    }
    unknown = tuple(path for path, root in inputs.items() if root is None)
    return Fingerprint({name: parts for name, parts in groups.items() if parts}, unknown)


def _command(task: Task) -> dict[str, str]:
    if task.stages:
        names = {"stages": ", ".join(stage.name for stage in task.stages)}
        command = {**names, **{f"stages.{stage.name}": stage.command or "" for stage in task.stages}}
    else:
        command = {"": task.command} if task.command is not None else {"stage": task.stage or ""}
    if task.working_dir:
        command["working_dir"] = task.working_dir
    return command


def _without_passwords(parts: Mapping[str, str]) -> dict[str, str]:
    return {name: shown(value) for name, value in parts.items()}


def of_fields(wanted: Mapping[str, str], identity: Mapping[str, str] | None = None) -> Fingerprint:
    """The parts of an infrastructure resource: its content fields, and which thing it is."""
    return Fingerprint({"fields": dict(wanted), "place": dict(identity)} if identity else {"fields": dict(wanted)})


def triggered(base: Fingerprint, triggers: Mapping[str, str | None]) -> Fingerprint:
    """The fingerprint with what does the resource again: each by the result that is in force of it, None while that is not known."""
    known = {name: proof for name, proof in triggers.items() if proof is not None}
    unknown = tuple(name for name, proof in triggers.items() if proof is None)
    return Fingerprint({**base.parts, "triggers": known} if known else base.parts, (*base.unknown, *unknown)) if triggers else base
