"""A graph as a picture that every browser shows: one column a layer, from left to right. Knows no resource, needs no program.

A node stands one column right of the last that it waits for. Inside a column nodes are sorted by the mean row of their
neighbours, swept a few times in both directions (the barycentre method of Sugiyama, 1981), so that few edges cross.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from xml.sax.saxutils import escape

from albor_pipeline.ui.diagnostics import visible

Edge = tuple[str, str]
SWEEPS = 4
LETTER, PADDING, BOX, ROW, GAP, MARGIN = 7.3, 10, 26, 40, 70, 16
STYLE = (
    "text{font:12px ui-monospace,Menlo,Consolas,monospace;fill:#1f2328}"
    "rect{fill:#f6f8fa;stroke:#57606a}path{fill:none;stroke:#8c959f}"
)


def svg(title: str, names: Sequence[str], edges: Sequence[Edge]) -> Iterator[str]:
    """The lines of an SVG file; `names` are in a topological order, `edges` go from earlier to later ones."""
    columns = _columns(names, edges)
    width = {name: round(_letters(name) * LETTER + 2 * PADDING) for name in names}
    tallest = max(map(len, columns), default=0) * ROW
    at: dict[str, tuple[int, int]] = {}
    left = MARGIN
    for column in columns:
        top = MARGIN + (tallest - len(column) * ROW) // 2
        at.update({name: (left, top + row * ROW) for row, name in enumerate(column)})
        left += max(width[name] for name in column) + GAP
    size = max(left - GAP, MARGIN) + MARGIN, tallest + 2 * MARGIN
    yield f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}" viewBox="0 0 {size[0]} {size[1]}">'
    yield f"<title>{_shown(title)}</title>"
    yield f"<style>{STYLE}</style>"
    for up, down in edges:
        yield _edge(at[up][0] + width[up], at[up][1] + BOX // 2, at[down][0], at[down][1] + BOX // 2)
    for name in names:
        x, y = at[name]
        box = f'<rect x="{x}" y="{y}" width="{width[name]}" height="{BOX}" rx="4"/>'
        yield f'<g>{box}<text x="{x + PADDING}" y="{y + 17}">{_shown(name)}</text></g>'
    yield "</svg>"


def _edge(x: int, y: int, to_x: int, to_y: int) -> str:
    middle = (x + to_x) // 2
    return f'<path d="M{x} {y}C{middle} {y} {middle} {to_y} {to_x} {to_y}m-6 -3l6 3l-6 3"/>'


def _columns(names: Sequence[str], edges: Sequence[Edge]) -> list[list[str]]:
    ups: dict[str, list[str]] = {name: [] for name in names}
    downs: dict[str, list[str]] = {name: [] for name in names}
    for up, down in edges:
        ups[down].append(up)
        downs[up].append(down)
    layer: dict[str, int] = {}
    for name in names:
        layer[name] = max((layer[up] + 1 for up in ups[name]), default=0)
    columns: list[list[str]] = [[] for _ in range(max(layer.values(), default=-1) + 1)]
    for name in names:
        columns[layer[name]].append(name)
    for sweep in range(SWEEPS):
        forth = sweep % 2 == 0
        _sort(columns if forth else columns[::-1], ups if forth else downs)
    return columns


def _sort(columns: Sequence[list[str]], neighbours: Mapping[str, Sequence[str]]) -> None:
    place: dict[str, float] = {}
    for column in columns:
        middle = (len(column) - 1) / 2
        wanted = {
            name: sum(known) / len(known) if (known := [place[other] for other in neighbours[name] if other in place]) else row - middle
            for row, name in enumerate(column)
        }
        column.sort(key=wanted.__getitem__)
        place.update({name: row - middle for row, name in enumerate(column)})


def _letters(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in visible(text))


def _shown(text: str) -> str:
    return escape(visible(text))
