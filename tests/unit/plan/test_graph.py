"""The order of a plan: respects every edge, goes by name where it may, agrees with two other implementations."""

from __future__ import annotations

import graphlib
import random

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from albor_pipeline.model.resource import Key
from albor_pipeline.plan.graph import from_edges

Edges = dict[Key, tuple[Key, ...]]


def keys(*names: str) -> tuple[Key, ...]:
    return tuple(Key(name, "m") for name in names)


@st.composite
def acyclic(draw: st.DrawFn) -> Edges:
    names = draw(st.permutations([f"n{i:02d}" for i in range(draw(st.integers(1, 14)))]))
    nodes = keys(*names)
    chosen = [draw(st.integers(0, (1 << index) - 1)) for index in range(len(nodes))]
    return {node: tuple(sorted(up for at, up in enumerate(nodes) if bits >> at & 1)) for node, bits in zip(nodes, chosen, strict=True)}


@given(acyclic())
def test_order_respects_every_edge_and_is_the_lexicographic_one_of_networkx(edges: Edges) -> None:
    graph = from_edges(edges)
    place = {key: index for index, key in enumerate(graph.order)}
    assert all(place[up] < place[key] for key, ups in edges.items() for up in ups)
    oracle = networkx.DiGraph()
    oracle.add_nodes_from(edges)
    oracle.add_edges_from((up, key) for key, ups in edges.items() for up in ups)
    assert list(graph.order) == list(networkx.lexicographical_topological_sort(oracle))
    assert set(graph.order) == set(graphlib.TopologicalSorter(edges).static_order())


@given(acyclic(), st.randoms(use_true_random=False))
def test_reordering_the_manifest_changes_nothing(edges: Edges, shuffler: random.Random) -> None:
    mixed = list(edges.items())
    shuffler.shuffle(mixed)
    assert from_edges(dict(mixed)).order == from_edges(edges).order


@given(acyclic())
def test_closure_is_the_ancestors(edges: Edges) -> None:
    graph = from_edges(edges)
    oracle = networkx.DiGraph((up, key) for key, ups in edges.items() for up in ups)
    oracle.add_nodes_from(edges)
    for key in edges:
        assert graph.closure([key]) == networkx.ancestors(oracle, key) | {key}
        assert graph.dependents([key]) == networkx.descendants(oracle, key) | {key}


def test_a_cycle_is_refused() -> None:
    a, b = keys("a", "b")
    with pytest.raises(ValueError, match="cycle"):
        from_edges({a: (b,), b: (a,)})


def test_longest_chain_adds_seconds_along_edges() -> None:
    a, b, c, d = keys("a", "b", "c", "d")
    graph = from_edges({a: (), b: (a,), c: (a,), d: (b,)})
    assert graph.longest_chain({a: 1, b: 2, c: 30, d: 4}, frozenset((a, b, c, d))) == ((a, c), 31.0)
    assert graph.longest_chain({a: 1, b: 2, c: 30, d: 4}, frozenset((a, b, d))) == ((a, b, d), 7.0)
    assert graph.longest_chain({}, frozenset()) == ((), 0.0)
