"""Observe: everything that costs I/O, found before a plan is made: one probe per machine, code, configs, stage answers."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.errors import Problems, UnreachableError
from albor_pipeline.model.addresses import shown
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.observed import MachineView, Observation, Observed, StageAnswer, Tree, Verified
from albor_pipeline.model.resource import Key, Resource
from albor_pipeline.model.state import Entry, Origin, Result, State
from albor_pipeline.plan import fingerprint
from albor_pipeline.plan.flow import paths_of_checks
from albor_pipeline.plan.graph import Graph
from albor_pipeline.plan.inputs import Input, Inputs
from albor_pipeline.resources.base import Convergent, Instance, Item, keyed
from albor_pipeline.resources.python_env import PythonEnv, contents, interpreter
from albor_pipeline.resources.registry import convergent
from albor_pipeline.resources.task import Task
from albor_pipeline.run import stageplans
from albor_pipeline.run.attempts import attempt_of, recorded, tree_of, verified_of
from albor_pipeline.run.code import RUNNER, CodeReader
from albor_pipeline.run.configs import StageConfig, read_config
from albor_pipeline.run.fleet import Fleet
from albor_pipeline.run.presence import present
from albor_pipeline.run.secrets import Vault
from albor_pipeline.run.spec import BASH

if TYPE_CHECKING:
    from albor_pipeline.run.project import Project

OTHER_NAMES = {"yaml": "pyyaml"}
COSTLY = ("sh", "python")
NOT_MADE = "not made"  # as the identity of a machine: what is recorded of it is of another one
GONE = {"same": False, "changes": [{"path": "", "what": "deleted"}]}
NOTHING: Mapping[str, Mapping[str, Any]] = {"tree": {}, "verify": GONE, "sh": {"exit": 1}, "python": {}}
TOGETHER = 1000  # items of a request: the machine looks at the first while the next are put together
Take = Callable[[Mapping[str, Any]], None]


@dataclass
class Found:
    """What is being collected, in the shape of Observed; configs keep their text for the start of the stage."""

    inputs: dict[tuple[str, str], Tree] = field(default_factory=dict)
    outputs: dict[tuple[Key, str], Verified] = field(default_factory=dict)
    made: dict[tuple[Key, int, str], Verified] = field(default_factory=dict)
    wanted: dict[Key, Mapping[str, str]] = field(default_factory=dict)
    infra: dict[Key, Observation] = field(default_factory=dict)
    checks: dict[Key, bool] = field(default_factory=dict)
    python: dict[Key, Mapping[str, str]] = field(default_factory=dict)
    code: dict[Key, Mapping[str, str]] = field(default_factory=dict)
    configs: dict[Key, StageConfig] = field(default_factory=dict)
    packages: dict[Key, frozenset[str]] = field(default_factory=dict)


class Observer:
    """Looks at the machines and the project on behalf of one manifest; `looked_for`: paths of the project, as in Instance."""

    def __init__(
        self, manifest: Manifest, graph: Graph, fleet: Fleet, vault: Vault, state_dir: Path, *, deep: bool = False
    ) -> None:
        self.manifest = manifest
        self.graph = graph
        self.fleet = fleet
        self.root = Path(manifest.root)
        self.deep = deep
        self._vault = vault
        self.problems = Problems()
        self.found = Found()
        self.inputs = Inputs(manifest, graph)
        self.looked_for: set[str] = set()
        self.sent: dict[Key, set[str]] = {}
        self._state_dir = state_dir
        self._machines: dict[str, MachineView] = {}
        self._entries: Mapping[Key, Entry] = {}
        self._foreign: set[str] = set()
        self._waiting: list[tuple[str, Callable[[], Sequence[Mapping[str, Any]]], list[list[Take]]]] = []

    @cached_property
    def project(self) -> Project:
        """The files that other machines get; its rooms are imported only where there is such a machine."""
        from albor_pipeline.run.project import Project, excluding

        return Project(self.root, excluding(self.root, self._state_dir, self.inputs.is_made))

    def ask(self, chosen: Sequence[Key], state: State) -> None:
        """Send the machines, which said hello, their questions about these resources; observe() waits for the answers."""
        self._entries = state.entries
        self._machines = {name: self._view(name, state.lineage) for name in self.manifest.machines}
        ids = state.machine_ids.items()
        self._foreign = {name for name, known in ids if name in self._machines and self._machines[name].machine_id not in (known, "", None)}
        items: dict[str, list[tuple[dict[str, Any], Take]]] = {}
        for key in chosen:
            if key.machine in self.fleet.unmade:
                self._find_nothing(key)
            if key.machine in self.fleet.agents:
                asked = items.setdefault(key.machine, [])
                asked.extend(self._items(key))
                if len(asked) >= TOGETHER:
                    self._send(key.machine, items.pop(key.machine))
        for machine, asked in items.items():
            self._send(machine, asked)

    def _find_nothing(self, key: Key) -> None:
        """What a machine that is not made yet would answer about a resource."""
        for item, take in self._items(key):
            if key in self.found.wanted:
                self.found.infra[key] = Observation(exists=False)
            else:
                take(NOTHING[item["op"]])

    def _send(self, machine: str, asked: Sequence[tuple[dict[str, Any], Take]]) -> None:
        """Ask what is asked; equal questions that cost a process once."""
        known: dict[str, list[Take]] = {}
        items: list[dict[str, Any]] = []
        takes: list[list[Take]] = []
        for item, take in asked:
            same = known.setdefault(repr(item), []) if item["op"] in COSTLY else []
            if not same:
                items.append(item)
                takes.append(same)
            same.append(take)
        if machine in self.fleet.agents:
            try:
                answers = self.fleet.ask(machine, items)
            except UnreachableError as error:
                self._lose(machine, error)
            else:
                self._waiting.append((machine, answers, takes))

    def _lose(self, machine: str, error: UnreachableError) -> None:
        """A machine that does not answer any more is as one that never did: nothing is assumed of it."""
        self.fleet.lose(machine, error)
        self._machines[machine] = MachineView(machine, error=self.fleet.errors[machine])

    def observe(self, chosen: Sequence[Key]) -> Observed:
        """Everything about these resources, whose project files are read, and the machines they are on, as they answer ask()."""
        waiting, self._waiting = self._waiting, []
        for machine, answers, takes in waiting:
            try:
                results = answers()
            except UnreachableError as error:
                self._lose(machine, error)
                continue
            for each, result in zip(takes, results, strict=True):
                for take in each:
                    take(result)
        return self._observed(self._ask_stages(chosen))

    def _observed(self, stages: Mapping[Key, StageAnswer]) -> Observed:
        found = self.found
        return Observed(
            machines=self._machines,
            inputs=found.inputs,
            outputs=found.outputs,
            made=found.made,
            wanted=found.wanted,
            infra=found.infra,
            completed={key: ok and self._outputs_exist(key) for key, ok in found.checks.items()},
            code=found.code,
            configs={name: config.parts for name, config in found.configs.items()},
            python=found.python,
            stages=stages,
            project_files=self._project_files(stages),
        )

    def _project_files(self, stages: Mapping[Key, StageAnswer]) -> frozenset[str]:
        paths = {*paths_of_checks(self.manifest), *(path for answer in stages.values() for path in answer.reads)}
        self.looked_for |= paths
        return present(self.manifest, paths)

    def _view(self, name: str, lineage: str) -> MachineView:
        agent = self.fleet.agents.get(name)
        if name in self.fleet.unmade:
            return MachineView(name, machine_id=NOT_MADE)
        if agent is None:
            return MachineView(name, error=self.fleet.errors.get(name))
        hello = agent.hello
        on_record = [recorded(self._entries[Key(resource, name)], lineage) for resource in hello["unchanged"]]
        return MachineView(
            name,
            machine_id=str(hello["machine_id"]),
            boot_id=str(hello["boot_id"]),
            attempts=(*map(attempt_of, hello["attempts"]), *on_record),
            facts=hello,
            is_new=name in self.fleet.made,
        )

    def read_project(self, keys: Iterable[Key]) -> None:
        """Code and configs of these resources; what is wrong with a config is collected in `problems`. Asks no machine."""
        reader = CodeReader(self.root)
        for key in keys:
            resource = self.manifest.resources[key.resource]
            task = resource.fields_on(key.machine)
            if not isinstance(task, Task):
                continue
            if task.stage is not None:
                self.looked_for.update([task.config] if isinstance(task.config, str) else ())
                self.found.configs[key] = read_config(resource, key.machine, self.root, self.problems)
                closure = reader.closure(RUNNER, f"stages/{task.stage}.py")
            else:
                closure = reader.closure(*_scripts(task, reader))
            self.found.code[key] = closure.files
            self.found.packages[key] = closure.packages
            self.inputs.of(key)
            if not self.manifest.machines[key.machine].is_local:
                self.project.look()
        reader.save()
        self.looked_for |= reader.looked_for

    def _items(self, key: Key) -> list[tuple[dict[str, Any], Take]]:
        resource = self.manifest.resources[key.resource]
        task = resource.fields_on(key.machine)
        if isinstance(task, Task):
            return [*self._task_items(key, task), *self._python_items(key, task)]
        return self.infra_items(key)

    def _task_items(self, key: Key, task: Task) -> list[tuple[dict[str, Any], Take]]:
        items: list[tuple[dict[str, Any], Take]] = []
        entry = self._entries.get(key)
        result = entry.in_force if entry else None
        for path, proof in result.outputs.items() if result else ():
            if proof.root is not None:
                item = {"op": "verify", "path": path, "root": proof.root, "deep": self.deep}
                items.append((item, lambda raw, path=path: self._take_output(key, path, raw)))  # type: ignore[misc]
        items += self._made_items(key, result)
        items += [self.input_item(key, each.path) for each in self.inputs.of(key) if each.output is None and not self._is_sent(key, each)]
        items += [self.input_item(key, path) for path in self.inputs.moving(key)]
        if task.completion_check is not None and (entry is None or result is None):
            check = {"op": "sh", "script": f"exec {BASH} -c {shlex.quote(task.completion_check)}", "timeout_s": 60.0}
            items.append((check, lambda raw: self._take_check(key, raw)))
        if entry is None or (task.completion_check is not None and result is None):
            items += [self.input_item(key, output.path) for output in task.outputs]
        return items

    def input_item(self, key: Key, path: str) -> tuple[dict[str, Any], Take]:
        """The probe item for one path on the machine of `key`, and where its answer goes."""

        def take(raw: Mapping[str, Any]) -> None:
            self.found.inputs[key.machine, path] = tree_of(raw)

        return {"op": "tree", "path": path, "deep": self.deep}, take

    def _is_sent(self, key: Key, item: Input) -> bool:
        """True when the machine gets this input with the project: then it counts as the project has it, whatever lies there now."""
        machine, path = self.inputs.places.of(key.machine, item.path)
        if self.manifest.machines[key.machine].is_local or machine != key.machine or self.inputs.places.mounted(machine, item.path):
            return False
        tree = self.project.tree(path)
        if tree is None:
            return False
        self.found.inputs[key.machine, item.path] = tree
        self.sent.setdefault(key, set()).add(item.path)
        if item.makers:
            resource = self.manifest.resources[key.resource]
            what = f"`{resource.id}` on {key.machine} reads `{item.path}`"
            text = f"{what}, where `{item.makers[0].resource}` writes and the project has files"
            note = "name the files of the project and the output apart, or keep them in folders of their own"
            self.problems.error("mixed-input", text, resource.spans.get("inputs") or resource.span, notes=(note,))
        return True

    def _made_items(self, key: Key, result: Result | None) -> list[tuple[dict[str, Any], Take]]:
        """The outputs of a newest attempt that ended well and is not what is in force: whether they still are what it made."""
        newest = next(iter(self._machines[key.machine].by_resource.get(key.resource, ())), None)
        if newest is None or newest.exit is None or not newest.exit.ok:
            return []
        if result is not None and (result.attempt, result.run) == (newest.number, newest.run):
            return []

        def taker(path: str) -> Take:
            def take(raw: Mapping[str, Any]) -> None:
                self.found.made[key, newest.number, path] = located(path, verified_of(raw))

            return take

        proofs = {path: proof.root for path, proof in newest.exit.outputs.items() if proof.root is not None}
        return [({"op": "verify", "path": path, "root": root, "deep": self.deep}, taker(path)) for path, root in proofs.items()]

    def _take_output(self, key: Key, path: str, raw: Mapping[str, Any]) -> None:
        self.found.outputs[key, path] = located(path, verified_of(raw))

    def _take_check(self, key: Key, raw: Mapping[str, Any]) -> None:
        self.found.checks[key] = raw.get("exit") == 0

    def _outputs_exist(self, key: Key) -> bool:
        task = self.manifest.resources[key.resource].fields_on(key.machine)
        return all(self.found.inputs.get((key.machine, output.path), Tree(None)).found for output in task.outputs)

    def _python_items(self, key: Key, task: Task) -> list[tuple[dict[str, Any], Take]]:
        packages = self.found.packages.get(key, frozenset())
        if task.python is not None:
            self.found.python[key] = self._environment(key, task.python)
            return []
        if not packages:
            return []

        def take(raw: Mapping[str, Any]) -> None:
            self.found.python[key] = versions(raw, packages)

        return [({"op": "python", "python": None}, take)]

    def _environment(self, key: Key, name: str) -> dict[str, str]:
        """A declared environment counts by what is asked of it, so that it is known before it is made."""
        declared = self.manifest.resources.get(name)
        if declared is None or not isinstance(declared.fields_on(key.machine), PythonEnv):
            return {"interpreter": name}
        asked = contents(Instance(declared, self.manifest.machines[key.machine], self.root, looked_for=self.looked_for))
        return {name: fingerprint.of_fields(asked).digest(digest_bytes)[:16]}

    def instance(self, key: Key) -> Instance:
        """A resource on its machine, with its secrets put in."""
        declared = self.manifest.resources[key.resource]
        resource = self._vault.resource(declared)
        machine, gpu = self.manifest.machines[key.machine], key in self._with_gpu
        before, ours = self._proven(key, resource)
        return Instance(
            resource, machine, self.root, resource is not declared, self.deep, gpu, self.fleet.lineage, before, ours,
            looked_for=self.looked_for,
        )  # fmt: skip

    def _proven(self, key: Key, resource: Resource) -> tuple[Mapping[str, str], frozenset[str] | None]:
        """The values that this very thing was proven with last, and what inside it is ours where not all is."""
        entry = self._entries.get(key)
        result = entry.in_force if entry is not None and key.machine not in self._foreign else None
        if result is None or not result.observed:
            return {}, None
        place = convergent(resource.kind).identity(resource.fields_on(key.machine))
        if result.fingerprint.parts.get("place", place) != place:
            return {}, None
        found = result.removal.get("found") or (not result.removal and result.origin is Origin.FOUND)
        return result.observed, frozenset(result.removal.get("made", ())) if found else None

    @cached_property
    def _with_gpu(self) -> frozenset[Key]:
        """The environments in which a task that needs a GPU runs."""
        copies = (key for resource in self.manifest.resources.values() if resource.kind == "task" for key in resource.copies())
        tasks = ((key.machine, self.manifest.resources[key.resource].fields_on(key.machine)) for key in copies)
        return frozenset(Key(task.python, machine) for machine, task in tasks if task.python and task.gpus)

    def wanted(self, one: Instance) -> Mapping[str, str]:
        """What must be found of a resource, as it may be recorded."""
        return self._recordable(one, convergent(one.resource.kind).wanted(one))

    def seen(self, one: Instance, results: Sequence[Mapping[str, Any]]) -> Observation:
        """What a probe found of a resource, as it may be recorded."""
        found = convergent(one.resource.kind).observe(one, results)
        error = None if found.error is None else self._vault.mask(found.error)
        return replace(found, values=self._recordable(one, found.values), error=error)

    def _recordable(self, one: Instance, values: Mapping[str, str]) -> Mapping[str, str]:
        """No password of an address; the digest of a content with a secret keyed by the lineage: the same secret elsewhere has another."""
        values = {name: shown(value) for name, value in values.items()}
        if not one.secret or "content" not in values:
            return values
        return {**values, "content": keyed(one, values["content"])}

    def infra_items(self, key: Key) -> list[tuple[dict[str, Any], Take]]:
        """The probe items of a resource that is no task; none for a task."""
        resource = self.manifest.resources.get(key.resource)
        if resource is None or isinstance(resource.fields_on(key.machine), Task):
            return []
        one = self.instance(key)
        self.found.wanted[key] = self.wanted(one)
        probes = probes_of(convergent(resource.kind), one)
        results: list[Mapping[str, Any]] = []

        def take(raw: Mapping[str, Any]) -> None:
            results.append(raw)
            if len(results) == len(probes):
                self.found.infra[key] = self.seen(one, results)

        return [(item, take) for item in probes]

    def _ask_stages(self, keys: Iterable[Key]) -> dict[Key, StageAnswer]:
        questions: dict[str, dict[str, Any]] = {}
        chosen = {str(key): key for key in keys if key in self.found.configs}
        for name, key in chosen.items():
            facts = {"code": self.found.code[key], "inputs": self._known_roots(key)}
            task = self.manifest.resources[key.resource].fields_on(key.machine)
            given = {"config_file": task.config} if isinstance(task.config, str) and not task.set else {}
            card = {"gpu": self._card(key.machine)} if task.gpus else {}
            questions[name] = {"stage": task.stage, "config": self.found.configs[key].values, "facts": facts, **given, **card}
        if not questions or self.problems.errors:
            return {}
        return {chosen[name]: answer for name, answer in stageplans.ask(self.root, questions).items()}

    def _card(self, machine: str) -> str:
        """The first graphics card of a machine by its driver's name; empty where the machine tells none, or does not answer."""
        cards = self._machines[machine].facts.get("gpus") or [""]
        return str(cards[0]).partition(" (UUID")[0]

    def _known_roots(self, key: Key) -> dict[str, str | None]:
        roots: dict[str, str | None] = {}
        for item in self.inputs.of(key):
            maker = item.makers[0] if item.output is not None else None
            entry = self._entries.get(maker) if maker is not None else None
            result = entry.in_force if entry else None
            if maker is not None and item.output is not None and result is not None and item.output in result.outputs:
                seen = self.found.outputs.get((maker, item.output))
                roots[item.path] = result.outputs[item.output].root if seen is None or seen.same else "changed"
            else:
                roots[item.path] = self.found.inputs.get((key.machine, item.path), Tree(None)).root
        return roots

    def made_inputs(self, key: Key) -> list[tuple[dict[str, Any], Take]]:
        """The probe items for inputs that earlier steps make: they are looked at again when `key` is ready."""
        if key not in self.graph.before:
            return []
        return [self.input_item(key, item.path) for item in self.inputs.of(key) if item.makers]

    def stamps_of(self, key: Key) -> dict[str, str]:
        """The stamp of each input as it was last looked at; what an attempt finds under the same stamp it need not read."""
        seen = ((item.path, self.found.inputs.get((key.machine, item.path))) for item in self.inputs.of(key))
        return {path: tree.stamp for path, tree in seen if tree is not None and tree.found}

    def python_of(self, key: Key) -> str | None:
        """The interpreter that runs a stage, where it is declared."""
        task = self.manifest.resources[key.resource].fields_on(key.machine)
        if not isinstance(task, Task) or task.python is None:
            return None
        declared = self.manifest.resources.get(task.python)
        fields = declared.fields_on(key.machine) if declared is not None else None
        return interpreter(fields) if isinstance(fields, PythonEnv) else task.python


def probes_of(kind: Convergent, one: Instance) -> list[Item]:
    """The probe items of a resource, as root where it says `sudo`."""
    return rightful(one, kind.probes(one))


def rightful(one: Instance, items: Sequence[Item]) -> list[Item]:
    """The items, as root where the resource says `sudo`."""
    return [{**item, "sudo": True} if one.resource.sudo else item for item in items]


def _scripts(task: Task, reader: CodeReader) -> list[str]:
    """The project files that a command names: argument words, and what `-m` runs."""
    words = " ".join(task.commands).split()
    files = []
    for before, word in zip(["", *words], words, strict=False):
        name = word.strip("\"';()")
        if before == "-m":
            name = name.replace(".", "/")
            files += [path for path in (f"{name}.py", f"{name}/__main__.py") if reader.is_file(path)]
        elif name.endswith((".py", ".sh")) and reader.is_file(name):
            files.append(name)
    return sorted(set(files))


def located(output: str, seen: Verified) -> Verified:
    """The changes of an output with paths as a user would type them; those of a glob are below its part without a wildcard."""
    fixed = takewhile(lambda part: not set("*?[") & set(part), output.rstrip("/").split("/"))
    base = "/".join(fixed)
    changes = (replace(change, path="/".join(part for part in (base, change.path) if part) or output) for change in seen.changes)
    return replace(seen, changes=tuple(changes))


def versions(raw: Mapping[str, Any], packages: frozenset[str]) -> dict[str, str]:
    """The interpreter's version, and of the distributions that offer the imported packages."""
    dists = {str(name).lower().replace("-", "_"): str(version) for name, version in (raw.get("dists") or {}).items()}
    found = {name: dists.get(OTHER_NAMES.get(name, name).lower(), "not installed") for name in sorted(packages)}
    return {"python": ".".join(str(raw.get("python", "")).split(".")[:2]), **found}
