"""Who refers to whom: depends_on, inputs and python become References; unknown names and cycles are found. Knows no YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from albor_pipeline.errors import Problems, Span
from albor_pipeline.manifest.context import Context
from albor_pipeline.manifest.names import Suggester
from albor_pipeline.model.resource import Reference, Resource
from albor_pipeline.resources.task import Task

MENTIONS = {"triggers": "is triggered by", "restart_on": "restarts on"}
MAX_ROUNDS = 20
MAX_SHOWN = 12
MAX_REFERENCES = 200_000
PATH_SIGNS = re.compile(r"[/*?\[.~]")


class References:
    """The references of all resources of one manifest.

    A word is looked up in the name space of its own recipe, then in those around it; the name of a group means its members.
    """

    def __init__(
        self,
        resources: Mapping[str, Resource],
        problems: Problems,
        groups: Mapping[str, tuple[str, ...]] | None = None,
        contexts: Mapping[str, Context] | None = None,
    ) -> None:
        self._resources = resources
        self._problems = problems
        self._groups = groups or {}
        self._contexts = contexts or {}
        self._suggest = Suggester()
        self._near: dict[str, dict[str, str]] = {}
        self._count = 0
        self._told: set[tuple[str, Span | None]] = set()

    def linked(
        self, wanted: Mapping[str, tuple[str, ...]], mentions: Mapping[str, Mapping[str, tuple[str, ...]]]
    ) -> dict[str, Resource]:
        """The resources with their References; `wanted` holds the words of each one's depends_on, absent where unknown.

        `mentions` holds, by field, the words of what does each one again. A resource that is wrong has fields None; nothing is
        said of its outputs.
        """
        linked: dict[str, Resource] = {}
        for name, resource in self._resources.items():
            found = {(ref.text, ref.resource): ref for ref in self._of(resource, wanted.get(name, ()))}
            triggers = {(ref.text, ref.resource): ref for ref in self._triggers(resource, mentions.get(name, {}))}
            changed = found or triggers
            linked[name] = replace(resource, depends_on=tuple(found.values()), triggers=tuple(triggers.values())) if changed else resource
        return linked

    def _triggers(self, resource: Resource, mentions: Mapping[str, tuple[str, ...]]) -> Iterator[Reference]:
        context = self._contexts.get(resource.id)
        for field, words in mentions.items():
            for index, word in enumerate(words):
                place, prefix = self._span(resource, f"{field}.{index}"), context.prefix if context else ""
                yield from self._declared(resource, word, prefix, place, MENTIONS[field])

    def _of(self, resource: Resource, words: tuple[str, ...]) -> Iterator[Reference]:
        context = self._contexts.get(resource.id)
        prefix = context.prefix if context is not None else ""
        for index, word in enumerate(words):
            yield from self._declared(resource, word, prefix, self._span(resource, f"depends_on.{index}"))
        for word, outer, span in context.outer if context is not None else ():
            yield from self._declared(resource, word, outer, span)
        fields = resource.fields
        if not isinstance(fields, Task):
            return
        for index, word in enumerate(fields.inputs):
            yield from self._input(resource, word, prefix, f"inputs.{index}")
        if fields.python is not None:
            yield from self._python(resource, fields.python, prefix)

    def _find(self, name: str, prefix: str) -> tuple[str, ...] | None:
        """The resources that a name means, seen from inside a name space; None when it means nothing."""
        while True:
            whole = prefix + name
            if whole in self._resources:
                return (whole,)
            if whole in self._groups:
                return self._groups[whole]
            if not prefix:
                return None
            prefix = prefix[: prefix.rfind("/", 0, -1) + 1]

    def _declared(self, resource: Resource, word: str, prefix: str, span: Span | None, verb: str = "depends on") -> Iterator[Reference]:
        name, _, machine = word.partition("@")
        members = self._find(name, prefix)
        if members is None:
            self._unknown(resource, name, prefix, span, verb)
            return
        if self._is_too_much(len(members), span):
            return
        for member in members:
            yield from self._checked(resource, Reference(word, member, machine or None, None, span))

    def _is_too_much(self, more: int, span: Span | None) -> bool:
        """Whether there are more dependencies than any honest manifest has; noted once."""
        before, self._count = self._count, self._count + more
        if before <= MAX_REFERENCES < self._count:
            message = f"the resources of a manifest depend on each other at most {MAX_REFERENCES:,} times"
            self._problems.error("too-large", message, span, "", ("put one resource between two large groups",))
        return self._count > MAX_REFERENCES

    def _input(self, resource: Resource, word: str, prefix: str, path: str) -> Iterator[Reference]:
        text, _, machine = word.partition("@")
        members, output = self._split(text, prefix)
        if members is None:
            if not PATH_SIGNS.search(word) and (known := self._suggest.closest(word, self._resources)):
                label = f"did you mean the resource `{known}`?"
                message = f"input `{word}` of `{resource.id}` names no resource and is taken as a path"
                self._problems.warning("path-like-name", message, self._span(resource, path), label)
            return
        span = self._span(resource, path)
        if not members:
            message = f"`{resource.id}` reads `{word}`, and no machine fulfils the `when` or the `arch` of that"
            self._error("not-there", message, span, "", ("give this one the same `when`",))
        if output is not None and len(members) > 1:
            members = tuple(name for name in members if self._makes(self._resources[name], output)) or members
        if self._is_too_much(len(members), span):
            return
        for member in members:
            yield from self._checked(resource, Reference(word, member, machine or None, output, span))

    def _split(self, text: str, prefix: str) -> tuple[tuple[str, ...] | None, str | None]:
        if (found := self._find(text, prefix)) is not None:
            return found, None
        for match in re.finditer(r"\.", text):
            if (found := self._find(text[: match.start()], prefix)) is not None:
                return found, text[match.end() :]
        return None, None

    def _python(self, resource: Resource, word: str, prefix: str) -> Iterator[Reference]:
        if "/" in word:
            return
        span = self._span(resource, "python")
        members = self._find(word, prefix)
        if members is None or len(members) != 1:
            self._unknown(resource, word, prefix, span, "runs in")
            return
        environment = self._resources[members[0]]
        if environment.kind not in ("python_env", ""):
            message = f"`{resource.id}` runs in `{word}`, which is a {environment.kind} and no python_env"
            self._error("wrong-kind", message, span)
        else:
            yield from self._checked(resource, Reference(word, environment.id, None, None, span))

    def _checked(self, resource: Resource, reference: Reference) -> Iterator[Reference]:
        other, span = self._resources[reference.resource], reference.span
        if other.id == resource.id:
            self._error("self-reference", f"`{resource.id}` refers to itself", span)
        elif other.fields is None:
            yield reference
        elif reference.machine is not None and reference.machine not in other.machines:
            message = f"`{reference.text}`: `{other.id}` is not on a machine `{reference.machine}`"
            self._error("unknown-machine", message, span, "", (f"it is on: {', '.join(other.machines)}",))
        elif reference.output is not None and not self._makes(other, reference.output):
            message = f"`{other.id}` has no output `{reference.output}`"
            outputs = [output.path for output in other.fields.outputs] if isinstance(other.fields, Task) else []
            declared = ", ".join(outputs) or "none"
            as_path = f"a file of that name is written `./{reference.resource}.{reference.output}`"
            self._error("unknown-output", message, span, "", (f"its outputs: {declared}", as_path))
        else:
            yield reference

    def _makes(self, other: Resource, word: str) -> bool:
        return isinstance(other.fields, Task) and any(word in output.names for output in other.fields.outputs)

    def _unknown(self, resource: Resource, name: str, prefix: str, span: Span | None, verb: str) -> None:
        if "{{" in name:
            return  # a template without a value, which is noted or not known yet
        if self._is_inside_a_wrong_one(name, prefix):
            return
        if prefix not in self._near:
            inside = (other for other in self._resources if other.startswith(prefix))
            self._near[prefix] = {other.removeprefix(prefix): other for other in inside}
        near = self._near[prefix]
        known = self._suggest.closest(name, near) or self._suggest.closest(name, self._groups)
        label = ""
        if known is not None:
            place = self._resources[near[known]].span if known in near else None
            line = (
                f"line {place.line}"
                if place is not None and span is not None and place.source is span.source
                else place
            )
            label = f"did you mean `{known}`, declared at {line}?" if place else f"did you mean `{known}`?"
        message = f"`{resource.id}` {verb} `{name}`, which is not declared"
        self._error("unknown-resource", message, span, label)

    def _is_inside_a_wrong_one(self, name: str, prefix: str) -> bool:
        """Whether it would lie in an instance of a recipe that is wrong: that is noted, and nobody knows what it holds."""
        above = [name[: match.start()] for match in re.finditer("/", name)]
        known = (self._resources.get(members[0]) for word in above if (members := self._find(word, prefix)))
        return any(item is not None and item.fields is None for item in known)

    def _span(self, resource: Resource, path: str) -> Span | None:
        return resource.spans.get(path, resource.span)

    def _error(self, code: str, message: str, span: Span | None, label: str = "", notes: tuple[str, ...] = ()) -> None:
        """Note it; the same fault of the same word in further copies is told once."""
        place = (code, span)
        if place not in self._told:
            self._told.add(place)
            self._problems.error(code, message, span, label, notes)


def check_cycles(resources: Mapping[str, Resource], problems: Problems) -> None:
    """Note every cycle that can be told apart from the others, as its path with line numbers, at its first resource."""
    waiting = _in_or_behind_cycles(resources)
    for _ in range(MAX_ROUNDS):
        if not waiting:
            return
        found: set[str] = set()
        for cycle in _walk_cycles(resources, waiting):
            found.update(cycle)
            _note_cycle([resources[name] for name in cycle], problems)
        waiting = _in_or_behind_cycles({name: resources[name] for name in waiting if name not in found})


def _walk_cycles(resources: Mapping[str, Resource], waiting: Mapping[str, None]) -> Iterator[list[str]]:
    done: set[str] = set()
    for start in waiting:
        place: dict[str, int] = {}
        path: list[str] = []
        name = start
        while name not in done and name not in place:
            place[name] = len(path)
            path.append(name)
            name = next(ref.resource for ref in resources[name].before if ref.resource in waiting)
        if name in place:
            yield path[place[name] :]
        done.update(path)


def _note_cycle(cycle: list[Resource], problems: Problems) -> None:
    shown = [f"{step.id} ({_line(step)})" for step in cycle[:MAX_SHOWN]]
    if len(cycle) > MAX_SHOWN:
        shown.append(f"{len(cycle) - MAX_SHOWN:,} more")
    message = f"these depend on each other: {' -> '.join(shown)} -> {cycle[0].id}"
    problems.error("cycle", message, cycle[0].span, "", ("one of these dependencies must go",))


def _line(resource: Resource) -> int:
    return resource.span.line if resource.span is not None else 0


def _in_or_behind_cycles(resources: Mapping[str, Resource]) -> dict[str, None]:
    """The names that Kahn's algorithm (1962) cannot order, in declared order."""
    ups = {name: {ref.resource for ref in item.before} & resources.keys() for name, item in resources.items()}
    after: dict[str, list[str]] = {name: [] for name in ups}
    for name, befores in ups.items():
        for up in befores:
            after[up].append(name)
    count = {name: len(befores) for name, befores in ups.items()}
    ready = [name for name, number in count.items() if number == 0]
    for name in ready:
        for down in after[name]:
            count[down] -= 1
            if count[down] == 0:
                ready.append(down)
    left = count.keys() - set(ready)
    return {name: None for name in resources if name in left}
