"""load(path): a manifest file as a Manifest, or every problem it has, together. Runs nothing and looks at no machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from albor_pipeline.errors import Diagnostic, ManifestError, Problems, Source, Span
from albor_pipeline.manifest import later
from albor_pipeline.manifest.afterwards import read_checks, read_moved
from albor_pipeline.manifest.context import Context
from albor_pipeline.manifest.dataflow import check_outputs
from albor_pipeline.manifest.environments import Environments
from albor_pipeline.manifest.files import Files, read_source
from albor_pipeline.manifest.includes import Includes
from albor_pipeline.manifest.nodes import Node, NodeSpans, Scalar, Table, Text, compose, without_collector
from albor_pipeline.manifest.paths import check_paths
from albor_pipeline.manifest.policies import check_policies, read_rules
from albor_pipeline.manifest.recipes import Recipes
from albor_pipeline.manifest.references import References, check_cycles
from albor_pipeline.manifest.resources import ResourceReader
from albor_pipeline.manifest.schema import Block, Reader
from albor_pipeline.manifest.scope import NAMESPACES, Scope
from albor_pipeline.manifest.sections import (
    MACHINE_SHOWN,
    POLICY_SHOWN,
    Head,
    MachineFields,
    OutputFields,
    PolicyFields,
)
from albor_pipeline.manifest.sources import Fetch, data_of, read_data, read_secrets
from albor_pipeline.model.manifest import (
    LOCAL_ADDRESSES,
    TOLD,
    Container,
    Machine,
    Manifest,
    Moved,
    Output,
    Policy,
    project_root,
)
from albor_pipeline.model.resource import Resource
from albor_pipeline.resources.places import Places

Further = Callable[[Manifest], Iterable[Diagnostic]]
FURTHER_LIMIT = 1_000
NAMING = re.compile(r"\{\{\s*(?:" + "|".join(NAMESPACES) + r")\b[^{}]*\}\}")
SECTIONS = (
    "params", "machines", "resources", "policy", "outputs", "includes", "environments", "policies", "data", "secrets",
    "checks", "moved",
)  # fmt: skip


def load(
    path: Path, *, environment: str | None = None, fetch: Callable[[Path], Fetch] | None = None, further: Further | None = None
) -> Manifest:
    """The manifest in the file `path`, as the named environment has it; its warnings are in `.warnings`.

    `fetch` gives for the project folder what reads a data source; without it `{{data.NAME}}` stays as written, so that
    checking a manifest runs nothing. `further` is asked for more problems of what could be read of a manifest that cannot
    be used, so that all of them are in one report.

    Raises ManifestError with every problem found, each with its place; never anything else for whatever the file holds.
    """
    problems = Problems()
    with without_collector():
        source = read_source(path)
        loader = _Loader(Text(source), problems, path, environment, fetch)
        manifest = loader.manifest()
    if problems.errors:
        found = loader.explained()
        if further is not None and manifest is not None and len(found) <= FURTHER_LIMIT:
            found += further(manifest)
        raise ManifestError(sorted(found, key=lambda item: _place(item, source)))
    assert manifest is not None
    return manifest


def _place(item: Diagnostic, main: Source) -> tuple[str, int, int]:
    """The order of a report: what has no place, the manifest from top to bottom, then each further file."""
    span = item.span
    if span is None:
        return ("", 0, 0)
    return ("" if span.source is main else span.source.name, span.line, span.column)


class _Loader:
    """One manifest on its way from text to values."""

    def __init__(
        self,
        text: Text,
        problems: Problems,
        path: Path,
        environment: str | None,
        fetch: Callable[[Path], Fetch] | None,
    ) -> None:
        self._environment = environment
        self._fetch = fetch
        self._path = path
        self._text = text
        self._files = Files(text, problems, path)
        self._problems = problems
        self._reader = Reader(text, problems)
        self._origins: dict[str, Node] = {}
        self._moved: tuple[Moved, ...] = ()

    def explained(self) -> list[Diagnostic]:
        """Every problem, with what templates put in at its place."""
        return self._reader.explained(self._problems)

    def manifest(self) -> Manifest | None:
        self._root = str(project_root(self._path))
        root = compose(self._text, self._problems)
        if not isinstance(root, Table):
            if not self._problems.errors:
                what = "is empty" if root is None or (isinstance(root, Scalar) and root.is_null) else f"is {root.what}"
                note = 'it starts with `version: "1.0"`, `name:` and `resources:`'
                place = self._text.span(0, 1)
                self._problems.error("empty", f"a manifest is a mapping; this file {what}", place, "", (note,))
            return None
        head = self._head(root)
        if "includes" in root.items:
            root = Includes(self._text, self._files, self._problems, self._head).merged(root, self._path)
        root = Environments(self._reader, root).chosen(self._environment)
        scope = Scope(self._params(root), origins=self._origins)
        secrets = read_secrets(self._reader, root)
        data = read_data(self._reader, self._section(root, "data"), scope)
        scope.data_names = data
        scope.data = data_of(data, self._fetch(project_root(self._path))) if self._fetch is not None else None
        machines = self._machines(root, scope)
        scope.machines = machines
        policy = self._policy(root, scope)
        machines = scope.machines = {name: replace(machine, connects=policy.connects) for name, machine in machines.items()}
        resources = self._resources(root, scope)
        check_paths(resources, machines, policy, self._problems)
        outputs = self._outputs(root, scope)
        checks = read_checks(self._reader, self._section(root, "checks"), scope)
        if head is None:
            return None
        used = {machine for resource in resources.values() for machine in resource.machines}
        used |= {check.machine for check in checks}
        machines = {name: machine for name, machine in machines.items() if machine.span is not None or name in used}
        return Manifest(
            name=head.name, path=str(self._path), root=self._root, machines=machines, resources=resources,
            policy=policy, params=scope.params, outputs=outputs, description=head.description,
            warnings=self._problems.warnings, environment=self._environment,
            secrets=replace(secrets, names=self._reader.secrets), checks=checks, moved=self._moved,
            data=tuple(data.values()), files=tuple(dict.fromkeys(self._files.looked_for)), environ=frozenset(scope.environ_read),
        )  # fmt: skip

    def _section(self, root: Table, name: str) -> Mapping[str, tuple[Scalar, Node]]:
        table = self._reader.table(root.get(name), f"`{name}`")
        return {} if table is None else table.items

    def _head(self, root: Table) -> Head | None:
        values = {key: self._reader.raw(pair[1], None) for key, pair in root.items.items() if key not in SECTIONS}
        place = self._text.span(root.start, root.start + 1)
        block = Block("the manifest", place, "a manifest", Head, extra=SECTIONS, later=later.TOP)
        return self._reader.model(Head, root, values, block)

    def _params(self, root: Table) -> Mapping[str, str]:
        found = {key: node for key, (_, node) in self._section(root, "params").items()}
        self._origins.update((f"params.{key}", node) for key, node in found.items())
        for key, node in found.items():
            if isinstance(node, Scalar) and (inner := NAMING.search(node.text)):
                message = f"the param `{key}` holds the template `{inner[0]}`, which is put in as it stands"
                note = "a param is looked up once and not resolved itself: write the template where the param is used"
                self._problems.warning("template-in-param", message, self._text.of(node), "", (note,))
        return {key: self._reader.plain_text(node) for key, node in found.items()}

    def _machines(self, root: Table, scope: Scope) -> dict[str, Machine]:
        machines: dict[str, Machine] = {}
        for name, (key, node) in self._section(root, "machines").items():
            table = self._reader.table(node, f"machine `{name}`") or Table(node.start)
            span = self._text.of(key)
            block = Block(f"machine `{name}`", span, "a machine", MachineFields, MACHINE_SHOWN, later=later.MACHINE)
            fields = self._reader.model(MachineFields, table, self._reader.raw(table, scope), block)
            machines[name] = replace(_machine(name, fields, span), not_yet=self._reader.take_not_yet())
            self._origins.update((f"machine.{name}.{fact}", inner) for fact, (_, inner) in table.items.items())
        local = Machine("localhost", LOCAL_ADDRESSES[0], "localhost")
        return machines if "localhost" in machines else {**machines, "localhost": local}

    def _policy(self, root: Table, scope: Scope) -> Policy:
        node = root.get("policy")
        table = self._reader.table(node, "`policy`")
        if table is None:
            return Policy()
        span = self._text.of(root.items["policy"][0])
        block = Block(
            "the policy", span, "a policy", PolicyFields, POLICY_SHOWN, later=later.POLICY,
        )
        values = {key: self._reader.raw(inner, scope) for key, (_, inner) in table.items.items() if key != "notify"}
        if notify := table.get("notify"):
            values["notify"] = self._notices(notify, scope)
        fields = self._reader.model(PolicyFields, table, values, block)
        if fields is None:
            return Policy()
        return replace(_policy(fields), not_yet=self._reader.take_not_yet(), spans=NodeSpans(self._text, table, {}))

    def _notices(self, node: Node, scope: Scope) -> Any:
        if not isinstance(node, Table):
            return self._reader.raw(node, scope)
        return {key: self._reader.raw(inner, replace(scope, told=TOLD.get(key, ()))) for key, (_, inner) in node.items.items()}

    def _resources(self, root: Table, scope: Scope) -> dict[str, Resource]:
        recipes = Recipes(self._reader, self._files)
        reader, context = ResourceReader(self._reader, recipes, Path(self._root)), Context(scope)
        for name, (key, node) in self._section(root, "resources").items():
            reader.add(name, key, node, context)
        if reader.gave_up:
            return reader.resources
        recipes.check_required()
        references = References(reader.resources, self._problems, reader.groups, reader.contexts)
        resources = references.linked(reader.depends_on, reader.mentions)
        self._moved = read_moved(self._reader, root, resources, reader.groups, scope.machines)
        check_cycles(resources, self._problems)
        check_outputs(resources, Places(self._root, scope.machines, resources), self._problems)
        check_policies(read_rules(self._reader, root), resources, self._problems)
        return resources

    def _outputs(self, root: Table, scope: Scope) -> tuple[Output, ...]:
        outputs: list[Output] = []
        for name, (key, node) in self._section(root, "outputs").items():
            table = self._reader.table(node, f"output `{name}`") or Table(node.start)
            span = self._text.of(key)
            block = Block(f"output `{name}`", span, "an output", OutputFields)
            fields = self._reader.model(OutputFields, table, self._reader.raw(table, scope), block)
            if fields is not None:
                outputs.append(Output(name, fields.value, fields.description, span))
        return tuple(outputs)


def _machine(name: str, fields: MachineFields | None, span: Span) -> Machine:
    if fields is None:
        return Machine(name, LOCAL_ADDRESSES[0], name, span=span)
    slots: dict[str, int | None] = {}
    if fields.slots is not None:
        slots = {"gpu": fields.slots.gpu, "cpu": fields.slots.cpu, "memory_bytes": fields.slots.memory}
    return Machine(
        name=name, addr=fields.addr, hostname=fields.hostname or name, user=fields.user, arch=fields.arch,
        workdir=fields.workdir, slots={key: value for key, value in slots.items() if value is not None},
        env=fields.env, port=fields.port, ssh_key=fields.ssh_key, jump=fields.jump, known_hosts=fields.known_hosts,
        transport=fields.transport, container=_container(name, fields), roles=fields.roles,
        direct=fields.direct, forward_agent=fields.forward_agent, span=span,
    )  # fmt: skip


def _container(name: str, fields: MachineFields) -> Container | None:
    made = fields.container
    if made is None:
        return None
    return Container(
        runtime=made.runtime, name=made.name or f"forjar-{fields.hostname or name}", image=made.image, ephemeral=made.ephemeral,
        privileged=made.privileged, init=made.init, gpus=made.gpus, devices=made.devices, group_add=made.group_add, env=made.env,
        volumes=made.volumes,
    )  # fmt: skip


def _policy(fields: PolicyFields) -> Policy:
    one_by_one = not (fields.parallel_machines and fields.parallel_resources)
    return Policy(
        stop_on_first=fields.failure == "stop_on_first",
        fails_unreachable=fields.unreachable == "fail",
        drift=fields.drift,
        max_parallel=1 if one_by_one and fields.max_parallel is None else fields.max_parallel,
        pre_apply=fields.pre_apply, post_apply=fields.post_apply,
        on_success=fields.notify.on_success, on_failure=fields.notify.on_failure, on_drift=fields.notify.on_drift,
        deny_paths=fields.deny_paths,
        connects=None if fields.ssh_retries is None else min(4, max(1, fields.ssh_retries)),
    )  # fmt: skip
