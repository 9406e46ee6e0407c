"""The pages and the JSON Schema of the format in docs/: every block and field, for readers and for editors. Knows no registry."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from albor_pipeline.model.about import BlockAbout, FieldAbout

HEAD = """\
# The manifest

Every section and its fields, written by `albor-pipeline schema --markdown` from the declarations that check a manifest; do not edit it.
The types of resources are in [types.md](types.md).
`albor-pipeline explain TYPE.FIELD` shows the same in a terminal, `albor-pipeline schema` is the JSON Schema for editors. With the YAML
language server, this first line of a manifest turns on completion and checks:

```yaml
# yaml-language-server: $schema=../docs/manifest.schema.json
```

A manifest that `albor-pipeline init` makes has that line; `albor-pipeline schema --recipe` is the schema of a recipe file.

Text is taken as written (`mode: 0644` is the text 0644); numbers and true or false stand without quotes. Values of resources, machines,
the policy and outputs may hold templates such as `{{params.NAME}}`; `{{{{` stands for two braces. A key without a value counts as left out.
What is marked *not yet* is read and checked, and a plan that needs it is refused by name.
"""
TYPES_HEAD = """\
# The types of resources

Written by `albor-pipeline schema --markdown types`; do not edit it. [manifest.md](manifest.md) has the rest of a manifest.

Beside its own fields, a resource of every type takes those of `resource` there. A change of a *content* field runs or applies it again;
a *policy* field counts the next time, a *doc* field never.
"""
COLUMNS = ("field", "takes", "default", "what it is for")


def lines(blocks: Iterable[BlockAbout], *, types: bool) -> Iterator[str]:
    """The page of the types of resources, or that of everything else."""
    yield from (TYPES_HEAD if types else HEAD).splitlines()
    for block in blocks:
        if block.is_type is types:
            yield from _section(block)


def _section(block: BlockAbout) -> Iterator[str]:
    yield ""
    yield f"## `{block.name}`"
    yield ""
    yield block.about
    if block.later:
        yield ""
        yield "*Not yet*: it is read and checked; a plan that needs it is refused."
    yield ""
    columns = ("field", "takes", "default", "class", "what it is for") if block.is_type else COLUMNS
    yield _row(columns)
    yield _row("---" for _ in columns)
    for field in block.fields:
        for path, inner in field.walk():
            change = [f"*{inner.change}*"] if block.is_type else []
            yield _row([f"`{path}`", _cell(inner.takes), _default(inner), *change, _about(inner)])


def _default(field: FieldAbout) -> str:
    return "required" if field.required else f"`{field.default}`" if field.default else ""


def _about(field: FieldAbout) -> str:
    also = "".join(f"; also written `{other}`" for other in field.spellings)
    return _cell(f"{field.about}{also}{' *(not yet)*' if field.later else ''}")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def schema_lines(schema: Mapping[str, Any]) -> list[str]:
    """A JSON Schema with a line for each definition, so that a change of one shows as one line."""
    head = [f"  {_pair(key, value)}," for key, value in schema.items() if key != "definitions"]
    inner = ",\n".join(f"    {_pair(key, value)}" for key, value in schema["definitions"].items())
    return ["{", *head, '  "definitions": {', inner, "  }", "}"]


def _pair(key: str, value: Any) -> str:
    return f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}"
