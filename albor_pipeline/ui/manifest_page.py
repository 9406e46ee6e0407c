"""docs/manifest.md: every block and field of the format as Markdown tables. Knows no registry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from albor_pipeline.model.about import BlockAbout, FieldAbout

HEAD = """\
# The manifest

Every block and every field, written by `albor-pipeline schema --markdown` from the declarations that check a manifest; do not edit it.
`albor-pipeline explain TYPE.FIELD` shows the same in a terminal, `albor-pipeline schema` is the JSON Schema for editors. With the YAML
language server, this first line of a manifest turns on completion and checks:

```yaml
# yaml-language-server: $schema=../docs/manifest.schema.json
```

Text is taken as written (`mode: 0644` is the text 0644); numbers and true or false stand without quotes. Values of resources, machines
and outputs may hold templates such as `{{params.NAME}}`; `{{{{` stands for two braces. A key without a value counts as left out.
What is marked *not yet* is read and checked, and a plan that needs it is refused by name.
"""
COLUMNS = ("field", "takes", "default", "what it is for")


def lines(blocks: Iterable[BlockAbout]) -> Iterator[str]:
    """The whole page."""
    known = list(blocks)
    yield from HEAD.splitlines()
    for block in known:
        if not block.is_type:
            yield from _section(block)
    yield ""
    yield "## Types"
    yield ""
    yield "Beside its own fields, a resource of every type takes those of `resource`. A change of a *content* field runs or applies it"
    yield "again; a *policy* field counts the next time, a *doc* field never."
    for block in known:
        if block.is_type:
            yield from _section(block)


def _section(block: BlockAbout) -> Iterator[str]:
    yield ""
    yield f"{'###' if block.is_type else '##'} `{block.name}`"
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
