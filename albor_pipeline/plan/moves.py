"""Moves: what has to come from other machines before a step can start, and moves that cannot be meant. Pure; moves nothing itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from albor_pipeline.errors import Diagnostic
from albor_pipeline.model.fingerprint import Fingerprint
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.observed import Observed
from albor_pipeline.model.plan import Move, Step
from albor_pipeline.model.resource import Key
from albor_pipeline.plan.graph import Graph
from albor_pipeline.plan.inputs import Inputs


def needed(key: Key, wanted: Fingerprint, inputs: Inputs, observed: Observed) -> list[Move]:
    """The inputs that lie elsewhere and are not yet, with the digest that counts, where the step reads them."""
    roots = wanted.parts.get("inputs", {})
    found: list[Move] = []
    for path, item in inputs.moving(key).items():
        root = roots.get(path)
        seen = observed.inputs.get((key.machine, path))
        if root is None or seen is None or seen.root != root:
            found.append(Move(path, item.makers[0].machine, item.output or path, root))
    return found


def problems(manifest: Manifest, graph: Graph, inputs: Inputs, steps: Iterable[Step], *, no_move: bool) -> Iterator[Diagnostic]:
    """What would be moved onto something else, twice to one place, or though `--no-move` says no."""
    taken: dict[tuple[str, str], Key] = {}
    for step in steps:
        if step.key not in graph.before:
            continue
        key, resource = step.key, manifest.resources[step.key.resource]
        span = resource.spans.get("inputs") or resource.span
        for path, (one, two) in inputs.gathered(key).items():
            message = f"`{key.resource}` on {key.machine} reads `{path}` of {one} and of {two}, and both would be moved to one path"
            yield Diagnostic("error", "moved-twice", message, span, notes=("let each write to a path of its own",))
        for path, item in inputs.moving(key).items():
            maker, place = item.makers[0], inputs.places.of(key.machine, path)
            reads = f"`{key.resource}` on {key.machine} reads `{path}`, which `{maker.resource}` makes on {maker.machine}"
            here = [other for other in inputs.makers(key.machine, path) if other.machine == key.machine]
            other = taken.setdefault(place, maker)
            if here:
                note = f"let each write to a path of its own, or read the one that is there: `{here[0]}`"
                message = f"{reads}, and `{here[0].resource}` makes the same path on {key.machine}"
                yield Diagnostic("error", "moved-onto", message, span, notes=(note,))
            elif other != maker:
                message = f"{reads}, and another task there reads the one of {other}"
                yield Diagnostic("error", "moved-twice", message, span, notes=("let each write to a path of its own",))
        for move in step.moves if no_move else ():
            message = f"`{key.resource}` on {key.machine} reads `{move.path}`, which is on {move.source}; with --no-move it stays there"
            note = f"put it there on {key.machine} yourself, leave --no-move out, or declare the `mount` that both share"
            yield Diagnostic("error", "not-moved", message, span, notes=(note,))
