"""The canonical order of keys: that of the declarations, with what identifies a block first. Knows no text."""

from __future__ import annotations

from collections.abc import Sequence

from albor_pipeline.manifest.environments import EnvironmentFields
from albor_pipeline.manifest.nodes import Node, Scalar, Table
from albor_pipeline.manifest.sections import CommonFields, Head, MachineFields, OutputFields, PolicyFields
from albor_pipeline.resources.registry import KINDS

TOP = (
    *Head.model_fields, "includes", "params", "secrets", "data", "environments", "machines", "resources", "policy", "policies", "checks",
    "outputs", "moved", "dist",
)  # fmt: skip
FIRST = ("type", "description", "machine", "when", "count", "for_each")
BLOCKS = {
    "machines": tuple(MachineFields.model_fields),
    "environments": tuple(EnvironmentFields.model_fields),
    "outputs": tuple(OutputFields.model_fields),
}


def order_at(path: Sequence[str], table: Table) -> tuple[str, ...]:
    """The order of the keys of the block that stands at `path`; empty where the author's order stays."""
    if not path:
        return TOP
    if list(path) == ["policy"]:
        return tuple(PolicyFields.model_fields)
    if len(path) == 2 and path[0] == "resources":
        return _resource(table.get("type"))
    return BLOCKS.get(path[0], ()) if len(path) == 2 else ()


def _resource(kind: Node | None) -> tuple[str, ...]:
    if not isinstance(kind, Scalar) or kind.text not in KINDS:
        return ()
    known = KINDS[kind.text]
    spelled = {name: written for written, name in known.names.items()}
    declared = [field.alias or name for name, field in known.model.model_fields.items()]
    own = [word for name in declared for word in (name, spelled.get(name, name))]
    return tuple(dict.fromkeys([*FIRST, *own, *CommonFields.model_fields]))
