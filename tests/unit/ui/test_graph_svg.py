"""The picture of a graph: nothing overlaps, edges go to the right, few cross, and a thousand nodes take a moment."""

from __future__ import annotations

import time
from xml.etree import ElementTree

from albor_pipeline.ui.graph_svg import svg

SVG = "{http://www.w3.org/2000/svg}"
LIMIT_S = 5.0


def _boxes(lines: list[str]) -> dict[str, tuple[float, float, float, float]]:
    """Left, top, right and bottom of each node."""
    found = {}
    for group in ElementTree.fromstring("\n".join(lines)).iter(f"{SVG}g"):
        x, y, width, height = (float(group.find(f"{SVG}rect").get(name)) for name in ("x", "y", "width", "height"))
        found[group.findtext(f"{SVG}text")] = (x, y, x + width, y + height)
    return found


def _drawn(names: list[str], edges: list[tuple[str, str]]) -> dict[str, tuple[float, float, float, float]]:
    return _boxes(list(svg("drawn", names, edges)))


def test_a_graph_of_nothing_is_an_empty_picture() -> None:
    assert _drawn([], []) == {}


def test_parallel_chains_do_not_cross() -> None:
    names = [f"{chain}{step}" for step in range(3) for chain in "abc"]
    edges = [("a0", "c1"), ("b0", "a1"), ("c0", "b1"), ("c1", "b2"), ("a1", "c2"), ("b1", "a2")]
    boxes = _drawn(names, edges)
    assert all(boxes[up][1] == boxes[down][1] for up, down in edges)


def test_a_thousand_nodes_stand_apart_and_inside_the_picture() -> None:
    names = [f"node-{layer}-{row}" for layer in range(10) for row in range(100)]
    places = [(layer, row) for layer in range(9) for row in range(100)]
    edges = [(f"node-{layer}-{row}", f"node-{layer + 1}-{row * step % 100}") for layer, row in places for step in (3, 7)]
    began = time.perf_counter()
    lines = list(svg("big", names, edges))
    assert time.perf_counter() - began < LIMIT_S
    boxes = _boxes(lines)
    root = ElementTree.fromstring("\n".join(lines))
    width, height = float(root.get("width")), float(root.get("height"))
    assert len(boxes) == 1000
    assert all(x >= 0 and y >= 0 and right <= width and bottom <= height for x, y, right, bottom in boxes.values())
    assert all(boxes[up][2] < boxes[down][0] for up, down in edges)
    columns: dict[float, list[tuple[float, float]]] = {}
    for x, y, _, bottom in boxes.values():
        columns.setdefault(x, []).append((y, bottom))
    assert all(above[1] < below[0] for column in columns.values() for above, below in zip(sorted(column), sorted(column)[1:], strict=False))


def test_a_name_is_shown_and_not_obeyed() -> None:
    lines = list(svg("</title><script>", ["<script>alert(1)</script>", "right\u202eleft\x07"], []))
    assert "<script>" not in "".join(lines)
    assert list(_boxes(lines)) == ["<script>alert(1)</script>", "right<U+202E>left<U+0007>"]
