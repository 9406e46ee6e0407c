"""What a plan refuses or warns of: stages that cannot work, paths that are not declared, slots that no machine has. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import replace
from pathlib import PurePosixPath

from albor_pipeline.errors import Diagnostic, Span
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.observed import Observed, StageAnswer
from albor_pipeline.model.plan import Action, Step
from albor_pipeline.model.resource import Key, Resource
from albor_pipeline.plan.flow import Flow
from albor_pipeline.plan.graph import Graph
from albor_pipeline.plan.inputs import Inputs
from albor_pipeline.plan.space import short
from albor_pipeline.resources.task import Task

SHOWN = 5
FREE_SOME = "free some, or see what `store gc --dry-run` would free"


def of_steps(
    manifest: Manifest, graph: Graph, observed: Observed, inputs: Inputs, steps: Iterable[Step], outdated: Container[Key]
) -> Iterator[Diagnostic]:
    """Every problem of the steps in reach; what a stage says of the data of an `outdated` one is judged when it is ready."""
    steps = list(steps)
    flow = Flow(manifest, graph, inputs, observed.project_files)
    yield from flow.declared(step.key for step in steps if step.key in graph.before)
    unwatched: dict[str, None] = {}
    for step in steps:
        resource = manifest.resources.get(step.key.resource)
        task = resource.fields_on(step.key.machine) if resource is not None else None
        if resource is None or not isinstance(task, Task):
            continue
        answer = observed.stages.get(step.key)
        if answer is not None:
            told = replace(answer, refusals=()) if step.key in outdated else answer
            yield from _stage(resource, step.key, task, told, inputs)
            yield from flow.stage_reads(step.key, answer.reads)
        yield from flow.missing(step.key, observed.inputs)
        yield from _slots(manifest, observed, resource, step.key, task)
        if task.stage is not None and task.python is None and not manifest.machines[step.key.machine].is_local:
            yield _no_interpreter(resource, step.key)
        if (
            task.stage is None
            and step.changes
            and not (observed.code.get(step.key) or task.inputs or resource.depends_on)
        ):
            unwatched[step.key.resource] = None
    yield from _space(observed, steps)
    if unwatched:
        names = ", ".join(list(unwatched)[:SHOWN]) + (f" and {len(unwatched) - SHOWN} more" if len(unwatched) > SHOWN else "")
        note = "declare `inputs`, or name a project script in the command"
        yield Diagnostic("warning", "only-text", f"only the command text is watched: {names}", notes=(note,))


def _space(observed: Observed, steps: Iterable[Step]) -> Iterator[Diagnostic]:
    """Too little room for what the steps of a machine will write, or, as a warning, may write."""
    sure: dict[str, dict[str, float]] = {}
    most: dict[str, dict[str, float]] = {}
    for step in steps:
        if step.disk_bytes and (step.action.executes or step.action is Action.MAY_RUN):
            for told in (sure, most) if step.action.executes else (most,):
                told.setdefault(step.key.machine, {})[step.key.resource] = step.disk_bytes
    for machine, sizes in most.items():
        view = observed.machines.get(machine)
        free = view.facts.get("disk_free_bytes") if view is not None and view.error is None else None
        if isinstance(free, int) and (lack := short(machine, free, sure.get(machine, {}), sizes, FREE_SOME)):
            yield lack


def _stage(resource: Resource, key: Key, task: Task, answer: StageAnswer, inputs: Inputs) -> Iterator[Diagnostic]:
    span = resource.spans.get("config") or resource.spans.get("stage") or resource.span
    for item in (*answer.problems, *answer.refusals):
        whole = replace(item, message=f"`{resource.id}` cannot work: {item.message}", span=span)
        yield whole if item.span is None else item
    for item in answer.warnings:
        yield replace(item, message=f"`{resource.id}`: {item.message}", span=span)
    declared = [item.path for item in inputs.of(key)]
    for path in answer.reads:
        if not _covered(path, declared):
            yield _uncovered(resource, span, "reads", path, "inputs")
    for path in answer.writes:
        if not _covered(path, [output.path for output in task.outputs]):
            yield _uncovered(resource, span, "writes", path, "outputs")


def _uncovered(resource: Resource, span: Span | None, verb: str, path: str, field: str) -> Diagnostic:
    message = f"`{resource.id}` {verb} `{path}`, which its `{field}` do not name"
    return Diagnostic(
        "error",
        f"undeclared-{field}",
        message,
        span,
        notes=(f"add it to `{field}`: what is not declared is not watched",),
    )


def _covered(path: str, declared: Iterable[str]) -> bool:
    pure = PurePosixPath(path)
    return any(PurePosixPath(item) in (pure, *pure.parents) or pure.match(item) for item in declared)


def _no_interpreter(resource: Resource, key: Key) -> Diagnostic:
    message = f"`{resource.id}`, a stage, is on {key.machine} and does not say which Python it runs in there"
    notes = ("give it `python:` with the id of a `python_env` on that machine, or with the path of an interpreter",)
    return Diagnostic("error", "no-python", message, resource.spans.get("stage") or resource.span, notes=notes)


def _slots(manifest: Manifest, observed: Observed, resource: Resource, key: Key, task: Task) -> Iterator[Diagnostic]:
    view = observed.machines.get(key.machine)
    if view is None or view.error is not None or not view.facts:
        return
    has = manifest.machines[key.machine].slots.get("gpu", len(view.facts.get("gpus") or ()))
    if task.gpu_device is not None and task.gpu_device >= has:
        span = resource.spans.get("gpu_device") or resource.span
        message = f"`{resource.id}` needs GPU {task.gpu_device}, {key.machine} has {f'those up to {has - 1}' if has else 'none'}"
        yield Diagnostic("error", "no-slot", message, span, notes=("name another machine, or declare its `slots`",))
    if (task.needs.gpu or 0) > has:
        span = resource.spans.get("needs") or resource.span
        message = f"`{resource.id}` needs {task.needs.gpu} GPU, {key.machine} has {has}"
        yield Diagnostic("error", "no-slot", message, span, notes=("name another machine, or declare its `slots`",))
