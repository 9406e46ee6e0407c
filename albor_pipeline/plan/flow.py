"""Flow: what tasks read against what tasks make: order that is not declared, paths that nothing makes. Looks at no disk itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cached_property
from posixpath import dirname
from posixpath import join as joined

from albor_pipeline.errors import Diagnostic, Span
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.observed import Tree
from albor_pipeline.model.resource import Key, Resource
from albor_pipeline.plan.graph import Graph
from albor_pipeline.plan.inputs import Inputs
from albor_pipeline.resources.places import fixed, parts
from albor_pipeline.resources.task import Task

FILE_TESTS = frozenset(("-e", "-f", "-s", "-d", "-r", "-w", "-x", "-L", "-h", "-nt", "-ot", "<"))
NO_PATH = frozenset("$*?[]{}~`\\:=@%,!\n\t ")
CLOSE = 0.6
MAX_COMPARED = 1000
MAX_SCRIPT = 20_000


def words_of(task: Task) -> tuple[str, ...]:
    """The words of a completion check that must be paths: with a slash, or told to a file test; those a shell expands are left out."""
    script = task.completion_check or ""
    if not 0 < len(script) <= MAX_SCRIPT:
        return ()
    import shlex

    lexer = shlex.shlex(script, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: dict[str, None] = {}
    before = ""
    try:
        for word in lexer:
            if _is_path(word) and ("/" in word or before in FILE_TESTS):
                found[word] = None
            before = word
    except ValueError:
        return ()
    return tuple(found)


def paths_of_checks(manifest: Manifest) -> Iterator[str]:
    """Every path that a completion check reads, from the project folder and from the task's own."""
    for resource in manifest.resources.values():
        for fields in (resource.fields, *resource.fields_by_machine.values()):
            if isinstance(fields, Task) and fields.completion_check is not None:
                for path in words_of(fields):
                    yield path
                    yield _beside(fields, path)


def _beside(task: Task, path: str) -> str:
    return joined(task.working_dir, path) if task.working_dir else path


def _is_path(word: str) -> bool:
    return word.strip("./-") != "" and word[0] not in "-<>|&;()#+" and not NO_PATH & set(word) and not word.startswith("/dev/")


class Flow:
    """The dataflow of one manifest; `there` holds the paths, as written, that were found in the project folder, None when nobody looked."""

    def __init__(self, manifest: Manifest, graph: Graph, inputs: Inputs, there: Collection[str] | None = None) -> None:
        self._manifest = manifest
        self._graph = graph
        self._inputs = inputs
        self._there = there
        self._patience = MAX_COMPARED * 10

    def declared(self, keys: Iterable[Key]) -> Iterator[Diagnostic]:
        """What the declarations alone tell."""
        told: set[tuple[str, str]] = set()
        for key in keys:
            resource = self._manifest.resources[key.resource]
            task = resource.fields_on(key.machine)
            if isinstance(task, Task):
                yield from self._order(resource, key, task)
                for item in self._check(resource, key, task):
                    if (key.resource, item.message) not in told:
                        told.add((key.resource, item.message))
                        yield item

    def missing(self, key: Key, found: Mapping[tuple[str, str], Tree]) -> Iterator[Diagnostic]:
        """Inputs below the pipeline's own folders that no one makes and that were looked for in vain."""
        resource = self._manifest.resources[key.resource]
        task = resource.fields_on(key.machine)
        references = {ref.text for ref in resource.depends_on}
        for path in task.inputs if isinstance(task, Task) else ():
            if path in references:
                continue
            tree = found.get((key.machine, path))
            if tree is None or tree.found or not self._unmade(key.machine, path):
                continue
            place = _place(resource, task, path)
            if tree.error:
                yield Diagnostic("error", "unreadable-input", f"`{resource.id}` reads `{path}`: {tree.error}", place)
                continue
            message = f"`{resource.id}` reads `{path}`, which is not there and which nothing makes"
            label, near = self._nearest(key.machine, path)
            sent = "" if self._manifest.machines[key.machine].is_local else ", or in the project folder where git does not ignore it"
            note = f"put it there on {key.machine}{sent}, or name it in the `outputs` of the task that makes it"
            yield Diagnostic("error", "missing-input", message, place, label, (*near, note))

    def stage_reads(self, key: Key, paths: Iterable[str]) -> Iterator[Diagnostic]:
        """Files that the configuration of a stage names, of which there is no maker and no sign in the project folder."""
        resource = self._manifest.resources[key.resource]
        task = resource.fields_on(key.machine)
        machine = self._manifest.machines[key.machine]
        if self._there is None or not machine.is_local or machine.workdir is not None or not isinstance(task, Task):
            return
        span = resource.spans.get("config") or resource.spans.get("stage") or resource.span
        brought = self._inputs.moving(key)
        for path in paths:
            if path in brought or any(path.startswith(folder + "/") for folder in brought):
                continue
            if path not in self._there and path not in task.inputs and self._unmade(key.machine, path):
                message = f"the config of `{resource.id}` reads `{path}`, which is not there and which nothing makes"
                yield self._warning(message, key, path, span)

    def _unmade(self, machine: str, path: str) -> bool:
        place = self._inputs.places.of(machine, path)
        if self._inputs.places.mounted(machine, path) or not self._own(*place):
            return False
        return not self._inputs.makers(machine, path)

    def _own(self, machine: str, path: str) -> bool:
        """A folder of the pipeline: the machine's project folder, or one into which a task writes."""
        if not path.startswith("/"):
            return path != ".." and not path.startswith("../")
        return any(path.startswith(home + "/") for home in self._homes.get(machine, ()))

    @cached_property
    def _homes(self) -> Mapping[str, Collection[str]]:
        homes: dict[str, set[str]] = {}
        for (machine, path), _, _ in self._inputs.outputs():
            home = dirname(fixed(path))
            if home.count("/") > 1:
                homes.setdefault(machine, set()).add(home)
        return homes

    def _order(self, resource: Resource, key: Key, task: Task) -> Iterator[Diagnostic]:
        for path in task.inputs:
            if any(ref.text == path for ref in resource.depends_on):
                continue
            for up in self._inputs.makers(key.machine, path):
                if up == key or up in self._graph.before[key] or up in self._graph.closure(self._graph.before[key]):
                    continue
                message = f"`{resource.id}` reads `{path}`, which `{up.resource}` makes"
                note = f"add `{up.resource}` to `inputs` or `depends_on`"
                if key in self._graph.closure([up]):
                    message += ", and that runs after it"
                    note = f"name what it reads more closely, so that what `{up.resource}` makes is no part of it"
                else:
                    message += ", and does not depend on it"
                yield Diagnostic("error", "undeclared-dependency", message, _place(resource, task, path), notes=(note,))

    def _check(self, resource: Resource, key: Key, task: Task) -> Iterator[Diagnostic]:
        if self._there is None or task.completion_check is None:
            return
        span = resource.spans.get("completion_check") or resource.span
        for path in words_of(task):
            beside = _beside(task, path)
            if {path, beside} & set(self._there) or not (self._unmade(key.machine, path) and self._unmade(key.machine, beside)):
                continue
            yield self._warning(f"the completion check of `{resource.id}` reads `{path}`, which nothing makes", key, path, span)

    def _warning(self, message: str, key: Key, path: str, span: Span | None) -> Diagnostic:
        label, notes = self._nearest(key.machine, path)
        return Diagnostic("warning", "unmade-path", message, span, label, notes)

    def _nearest(self, machine: str, path: str) -> tuple[str, tuple[str, ...]]:
        """The output most like a path (or like as much of it): a question at the caret when it is close, else a note."""
        if self._patience <= 0:
            return "", ()
        from difflib import SequenceMatcher

        place = self._inputs.places.of(machine, path)
        words = parts(place[1])
        near = self._outputs.get(place[0], [])
        near = [item for item in near if item[0][:1] == words[:1]] or near
        near = near[: min(MAX_COMPARED, self._patience)]
        self._patience -= len(near)
        best, name, text = 0.0, "", ""
        for made, maker, output in near:
            ratio = SequenceMatcher(None, "/".join(words[: len(made)]), "/".join(made)).ratio()
            if ratio > best:
                best, name, text = ratio, maker, output
        if not text:
            return "", ()
        if best >= CLOSE:
            return f"did you mean `{text}`, an output of `{name}`?", ()
        return "", (f"the nearest output is `{text}` of `{name}`",)

    @cached_property
    def _outputs(self) -> Mapping[str, list[tuple[tuple[str, ...], str, str]]]:
        found: dict[str, list[tuple[tuple[str, ...], str, str]]] = {}
        for (machine, path), key, output in self._inputs.outputs():
            found.setdefault(machine, []).append((tuple(parts(path)), key.resource, output.path))
        return found


def _place(resource: Resource, task: Task, path: str) -> Span | None:
    return resource.spans.get(f"inputs.{task.inputs.index(path)}") or resource.spans.get("inputs") or resource.span
