"""The sections that name values from elsewhere: `data` and `secrets`. Declares them; reads none of those values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal

from pydantic import Field

from albor_pipeline.errors import AlborError
from albor_pipeline.manifest.nodes import Node, Scalar, Table
from albor_pipeline.manifest.schema import Block, Reader
from albor_pipeline.manifest.scope import Scope, Unresolved
from albor_pipeline.model.manifest import DataSource, SecretSource
from albor_pipeline.resources.fields import Fields, Text

Fetch = Callable[[DataSource], Mapping[str, str]]
IDLE_DATA = {"forjar-state": ("value",), "file": ("state_dir", "config", "outputs")}
IDLE_DATA |= {"command": IDLE_DATA["file"], "dns": IDLE_DATA["file"]}
IDLE_SECRETS = {"env": ("path", "file"), "file": ("file",), "sops": ("path",), "op": ("file",)}
DATA_LATER = frozenset(("max_staleness",))
SECRETS_LATER = frozenset(("ephemeral",))


class DataFields(Fields):
    """One data source as declared."""

    type: Annotated[Literal["file", "command", "dns", "forjar-state"], Field(description="where the value comes from")]
    value: Annotated[Text | None, Field(description="the file, the command or the name that is looked up")] = None
    default: Annotated[str | None, Field(description="the value when that fails")] = None
    state_dir: Annotated[Text, Field(description="the state folder of another pipeline")] = "state"
    config: Annotated[Text | None, Field(description="the name of that pipeline, which its state must have")] = None
    outputs: Annotated[tuple[Text, ...], Field(description="which of its outputs")] = ()


class SecretsFields(Fields):
    """Where secrets come from."""

    provider: Annotated[
        Literal["env", "file", "sops", "op"],
        Field(description="where they come from: the environment, files, sops or 1Password"),
    ] = "env"
    path: Annotated[Text | None, Field(description="the folder of the files, or the vault")] = None
    file: Annotated[Text | None, Field(description="the file that sops reads")] = None


def read_data(reader: Reader, section: Mapping[str, tuple[Scalar, Node]], scope: Scope) -> dict[str, DataSource]:
    """The data sources by name; their values may hold templates, though not of other data."""
    sources: dict[str, DataSource] = {}
    for name, (key, node) in section.items():
        table = reader.table(node, f"data source `{name}`") or Table(node.start)
        span = reader.text.of(key)
        block = Block(f"data source `{name}`", span, "a data source", DataFields, later=DATA_LATER)
        fields = reader.model(DataFields, table, reader.raw(table, scope), block)
        if fields is None:
            continue
        if fields.type != "forjar-state" and fields.value is None:
            message = f"data source `{name}` needs `value`, because it is of type `{fields.type}`"
            reader.problems.error("missing-key", message, span)
            continue
        value = table.get("value")
        at = span if value is None else reader.text.of(value)
        _warn_of_idle(reader, fields, table, IDLE_DATA[fields.type], f"{block.owner}, because it is of type `{fields.type}`")
        sources[name] = DataSource(
            name, fields.type, fields.value or "", fields.default, fields.state_dir, fields.outputs, fields.config, span, at
        )
    return sources


def _warn_of_idle(reader: Reader, fields: Fields, table: Table, names: tuple[str, ...], whom: str) -> None:
    """Warn of every key of `names` that asks for something, and is not looked at."""
    for name in names:
        if name in table.items and getattr(fields, name) != type(fields).model_fields[name].default:
            reader.problems.warning("no-effect", f"`{name}` has no effect on {whom}", reader.text.of(table.items[name][0]))


def data_of(sources: Mapping[str, DataSource], fetch: Fetch) -> Callable[[str, str], str]:
    """What `{{data.NAME}}` and `{{data.NAME.OUTPUT}}` give; each source is asked once, when a template first names it."""
    known: dict[str, Mapping[str, str] | AlborError] = {}

    def value(name: str, part: str) -> str:
        source = sources[name]
        if name not in known:
            try:
                known[name] = fetch(source)
            except AlborError as error:
                known[name] = error
        found = known[name]
        if isinstance(found, AlborError):
            if source.default is not None:
                return source.default
            notes = (f"the source is declared at {source.span}", "give it a `default` if it may fail")
            raise Unresolved("data-source", f"data source `{name}`: {found.diagnostics[0].message}", "", notes)
        if part in found:
            return found[part]
        if not part and len(found) == 1:
            return next(iter(found.values()))
        if source.default is not None:
            return source.default
        what = f"has no output `{part}`" if part else "has several outputs; name one"
        raise Unresolved(
            "unknown-data", f"data source `{name}` {what}", "", (f"its outputs: {', '.join(found) or 'none'}",)
        )

    return value


def read_secrets(reader: Reader, root: Table) -> SecretSource:
    """Where secrets come from; the names that are used are added when all templates have been read."""
    table = reader.table(root.get("secrets"), "`secrets`")
    if table is None:
        return SecretSource()
    span = reader.text.of(root.items["secrets"][0])
    block = Block("`secrets`", span, "`secrets`", SecretsFields, later=SECRETS_LATER)
    fields = reader.model(SecretsFields, table, reader.raw(table, None), block)
    if fields is None:
        return SecretSource()
    if fields.provider == "sops" and fields.file is None:
        reader.problems.error("missing-key", "`secrets` needs `file`, because its provider is `sops`", span)
    idle = IDLE_SECRETS[fields.provider]
    _warn_of_idle(reader, fields, table, idle, f"`secrets`, because the provider is `{fields.provider}`")
    return SecretSource(fields.provider, fields.path, fields.file, span)
