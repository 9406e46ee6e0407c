"""A graph as lines of text, Mermaid or dot, from names in order and edges between them. Knows no resource."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

Edge = tuple[str, str]


def text(names: Sequence[str], edges: Sequence[Edge]) -> Iterator[str]:
    """A line for each name, with what it waits for."""
    ups: dict[str, list[str]] = {}
    for up, down in edges:
        ups.setdefault(down, []).append(up)
    for name in names:
        yield f"{name}  <-  {', '.join(ups[name])}" if name in ups else name


def mermaid(names: Sequence[str], edges: Sequence[Edge]) -> Iterator[str]:
    """A Mermaid flow chart, which Markdown viewers draw."""
    number = {name: f"n{index}" for index, name in enumerate(names)}
    yield "graph TD"
    for name in names:
        shown = name.replace("#", "#35;").replace('"', "#quot;")
        yield f'  {number[name]}["{shown}"]'
    for up, down in edges:
        yield f"  {number[up]} --> {number[down]}"


def dot(names: Sequence[str], edges: Sequence[Edge]) -> Iterator[str]:
    """The language of graphviz."""
    yield "digraph pipeline {"
    for name in names:
        yield f"  {_quoted(name)};"
    for up, down in edges:
        yield f"  {_quoted(up)} -> {_quoted(down)};"
    yield "}"


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
