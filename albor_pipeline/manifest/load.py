"""load(path): a manifest file as a Manifest, or every problem it has, together. Runs nothing and looks at no machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from albor_pipeline.errors import Diagnostic, ManifestError, Problems, Source, Span
from albor_pipeline.manifest import later
from albor_pipeline.manifest.dataflow import check_outputs
from albor_pipeline.manifest.nodes import Node, NodeSpans, Scalar, Table, Text, compose, without_collector
from albor_pipeline.manifest.references import References, check_cycles
from albor_pipeline.manifest.resources import ResourceReader
from albor_pipeline.manifest.schema import Block, Reader
from albor_pipeline.manifest.sections import Head, MachineFields, OutputFields, PolicyFields
from albor_pipeline.manifest.template import Scope
from albor_pipeline.model.manifest import LOCAL_ADDRESSES, Machine, Manifest, Output, Policy
from albor_pipeline.model.resource import Resource
from albor_pipeline.resources.places import Places

SECTIONS = ("params", "machines", "resources", "policy", "outputs")
MAX_BYTES = 32 << 20


def load(path: Path) -> Manifest:
    """The manifest in the file `path`; its warnings are in `.warnings`.

    Raises ManifestError with every problem found, each with its place; never anything else for whatever the file holds.
    """
    problems = Problems()
    with without_collector():
        source = read_source(path)
        manifest = _Loader(Text(source), problems).manifest(path)
    if problems.errors:
        raise ManifestError(sorted(problems, key=_place))
    assert manifest is not None
    return manifest


def _place(item: Diagnostic) -> tuple[int, int]:
    return (item.span.line, item.span.column) if item.span is not None else (0, 0)


def read_source(path: Path) -> Source:
    """The text of a manifest file; ManifestError when it cannot be read or is no UTF-8 text."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ManifestError.of("unreadable", f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
    except ValueError:
        raise ManifestError.of("unreadable", f"{str(path)!r} is no path") from None
    if len(data) > MAX_BYTES:
        raise ManifestError.of("too-large", f"{path} is larger than {MAX_BYTES >> 20} MiB, no manifest is")
    try:
        return Source(str(path), data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        where = f"byte {error.start + 1:,} is not UTF-8"
        raise ManifestError.of("not-text", f"{path} is not a text file: {where}", "save it as UTF-8") from None


def project_root(path: Path) -> Path:
    """The project folder of a manifest: its own folder, or the one above when that is called `manifests`."""
    folder = path.absolute().parent
    return folder.parent if folder.name == "manifests" else folder


class _Loader:
    """One manifest on its way from text to values."""

    def __init__(self, text: Text, problems: Problems) -> None:
        self._text = text
        self._problems = problems
        self._reader = Reader(text, problems)

    def manifest(self, path: Path) -> Manifest | None:
        self._root = str(project_root(path))
        root = compose(self._text, self._problems)
        if not isinstance(root, Table):
            if not self._problems.errors:
                what = "is empty" if root is None or (isinstance(root, Scalar) and root.is_null) else f"is {root.what}"
                note = 'it starts with `version: "1.0"`, `name:` and `resources:`'
                place = self._text.span(0, 1)
                self._problems.error("empty", f"a manifest is a mapping; this file {what}", place, "", (note,))
            return None
        head = self._head(root)
        scope = Scope(self._params(root))
        machines = self._machines(root, scope)
        scope.machines = machines
        policy = self._policy(root, machines)
        resources = self._resources(root, scope)
        outputs = self._outputs(root, scope)
        if head is None:
            return None
        used = {machine for resource in resources.values() for machine in resource.machines}
        machines = {name: machine for name, machine in machines.items() if machine.span is not None or name in used}
        return Manifest(
            name=head.name, path=str(path), root=self._root, machines=machines, resources=resources,
            policy=policy, params=scope.params, outputs=outputs, description=head.description,
            warnings=self._problems.warnings,
        )  # fmt: skip

    def _section(self, root: Table, name: str) -> Mapping[str, tuple[Scalar, Node]]:
        table = self._reader.table(root.get(name), f"`{name}`")
        return {} if table is None else table.items

    def _head(self, root: Table) -> Head | None:
        values = {key: self._reader.raw(pair[1], None) for key, pair in root.items.items() if key not in SECTIONS}
        block = Block("the manifest", self._text.span(0, 1), "a manifest", Head, extra=SECTIONS, later=later.TOP)
        return self._reader.model(Head, root, values, block)

    def _params(self, root: Table) -> Mapping[str, str]:
        return {key: self._reader.plain_text(node) for key, (_, node) in self._section(root, "params").items()}

    def _machines(self, root: Table, scope: Scope) -> dict[str, Machine]:
        machines: dict[str, Machine] = {}
        for name, (key, node) in self._section(root, "machines").items():
            table = self._reader.table(node, f"machine `{name}`") or Table(node.start)
            span = self._text.of(key)
            block = Block(f"machine `{name}`", span, "a machine", MachineFields, later=later.MACHINE)
            fields = self._reader.model(MachineFields, table, self._reader.raw(table, scope), block)
            machines[name] = _machine(name, fields, span)
        local = Machine("localhost", LOCAL_ADDRESSES[0], "localhost")
        return machines if "localhost" in machines else {**machines, "localhost": local}

    def _policy(self, root: Table, machines: Mapping[str, Machine]) -> Policy:
        node = root.get("policy")
        table = self._reader.table(node, "`policy`")
        if table is None:
            return Policy()
        span = self._text.of(root.items["policy"][0])
        block = Block("the policy", span, "a policy", PolicyFields, later=later.POLICY)
        values = self._reader.raw(table, None)
        notify = table.get("notify")
        if isinstance(notify, Table):
            for name in sorted(later.NOTIFY & notify.items.keys()):
                place = self._text.of(notify.items[name][0])
                self._problems.error("not-supported", f"`{name}` is not supported yet", place, "in the policy")
                del values["notify"][name]
        fields = self._reader.model(PolicyFields, table, values, block)
        return Policy() if fields is None else replace(_policy(fields), spans=NodeSpans(self._text, table, {}))

    def _resources(self, root: Table, scope: Scope) -> dict[str, Resource]:
        reader = ResourceReader(self._reader, scope)
        for name, (key, node) in self._section(root, "resources").items():
            reader.add(name, key, node)
        resources = References(reader.resources, self._problems).linked(reader.depends_on)
        check_cycles(resources, self._problems)
        check_outputs(resources, Places(self._root, scope.machines, resources), self._problems)
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
        env=fields.env, port=fields.port, roles=fields.roles, span=span,
    )  # fmt: skip


def _policy(fields: PolicyFields) -> Policy:
    one_by_one = not (fields.parallel_machines and fields.parallel_resources)
    return Policy(
        stop_on_first=fields.failure == "stop_on_first",
        max_parallel=1 if one_by_one and fields.max_parallel is None else fields.max_parallel,
        pre_apply=fields.pre_apply, post_apply=fields.post_apply,
        on_success=fields.notify.on_success, on_failure=fields.notify.on_failure,
    )  # fmt: skip
