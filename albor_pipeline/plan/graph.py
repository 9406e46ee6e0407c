"""Graph: one directed graph over (resource, machine) pairs, in Kahn's order with the name as tie-break. Knows no state."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.resource import Key, Reference


@dataclass(frozen=True)
class Graph:
    """`before[k]` is what k waits for, `after[k]` what waits for k, `order` a topological order."""

    order: tuple[Key, ...]
    before: Mapping[Key, tuple[Key, ...]]
    after: Mapping[Key, tuple[Key, ...]]

    def closure(self, targets: Iterable[Key]) -> frozenset[Key]:
        """The targets and everything that they need."""
        return self._reach(targets, self.before)

    def dependents(self, keys: Iterable[Key]) -> frozenset[Key]:
        """The keys and everything that needs them."""
        return self._reach(keys, self.after)

    @staticmethod
    def _reach(start: Iterable[Key], edges: Mapping[Key, tuple[Key, ...]]) -> frozenset[Key]:
        seen: set[Key] = set()
        stack = list(start)
        while stack:
            key = stack.pop()
            if key not in seen:
                seen.add(key)
                stack.extend(edges.get(key, ()))
        return frozenset(seen)

    def longest_chain(self, seconds: Mapping[Key, float], among: frozenset[Key]) -> tuple[tuple[Key, ...], float]:
        """The chain of `among` with the largest sum of seconds; steps without a figure count nothing but still link."""
        best: dict[Key, tuple[float, int, Key | None]] = {}
        for key in self.order:
            if key in among:
                total, length, previous = max(
                    ((best[up][0], best[up][1], up) for up in self.before[key] if up in best), default=(0.0, 0, None)
                )
                best[key] = (total + seconds.get(key, 0.0), length + 1, previous)
        if not best:
            return (), 0.0
        last: Key | None = max(best, key=lambda key: (best[key][0], best[key][1]))
        total = best[last][0] if last else 0.0
        chain: list[Key] = []
        while last is not None:
            chain.append(last)
            last = best[last][2]
        return tuple(reversed(chain)), total


def targets_of(reference: Reference, machine: str, manifest: Manifest) -> tuple[Key, ...]:
    """The copies that a reference means, seen from a resource on `machine`: the one named, else the copy beside it, else all."""
    resource = manifest.resources[reference.resource]
    if reference.machine is not None:
        return (Key(resource.id, reference.machine),)
    if machine in resource.machines:
        return (Key(resource.id, machine),)
    return resource.copies()


def build(manifest: Manifest) -> Graph:
    """The graph of a manifest that has no cycles (the manifest room has checked)."""
    before: dict[Key, tuple[Key, ...]] = {}
    for resource in manifest.resources.values():
        for key in resource.copies():
            ups = {up for ref in resource.before for up in targets_of(ref, key.machine, manifest)}
            before[key] = tuple(sorted(ups))
    return from_edges(before)


def from_edges(before: Mapping[Key, tuple[Key, ...]]) -> Graph:
    """Kahn's algorithm (1962) over `before`, with a heap so that ties go by name; raises ValueError on a cycle."""
    after: dict[Key, list[Key]] = {key: [] for key in before}
    waiting = {key: len(ups) for key, ups in before.items()}
    for key, ups in before.items():
        for up in ups:
            after[up].append(key)
    ready = [key for key, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    order: list[Key] = []
    while ready:
        key = heapq.heappop(ready)
        order.append(key)
        for down in after[key]:
            waiting[down] -= 1
            if waiting[down] == 0:
                heapq.heappush(ready, down)
    if len(order) != len(before):
        raise ValueError("the graph has a cycle")
    return Graph(tuple(order), before, {key: tuple(sorted(downs)) for key, downs in after.items()})
