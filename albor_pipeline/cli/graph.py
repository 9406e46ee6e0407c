"""`graph`: what depends on what, as text, Mermaid, dot, SVG or JSON. Touches no machine and no state."""

from __future__ import annotations

import argparse

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK
from albor_pipeline.manifest.load import load
from albor_pipeline.plan.graph import Graph, build
from albor_pipeline.ui import documents, graph_svg, graph_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MANIFEST, --target, --format."""
    parser.add_argument("manifest", nargs="?", help="manifests/albor.yaml, else the only one in manifests/")
    common.add_environment(parser)
    parser.add_argument("--target", action="append", default=[], metavar="RESOURCE", help="only this and what it needs")
    formats = ("text", "mermaid", "dot", "svg", "json")
    parser.add_argument("--format", choices=formats, default="text", help="svg needs no other program")


def run(args: argparse.Namespace) -> int:
    """Print the transitive reduction: an edge that follows from others is left out."""
    manifest = load(common.find_manifest(args.manifest), environment=args.env)
    graph = build(manifest)
    targets = frozenset(key for name in args.target for key in common.keys_of(name, manifest))
    chosen = graph.closure(targets) if targets else frozenset(graph.order)
    edges = _reduced(graph, chosen)
    names = [str(key) for key in graph.order if key in chosen]
    if args.format == "json":
        document = {**documents.head("graph"), "name": manifest.name, "nodes": names, "edges": [list(edge) for edge in edges]}
        common.out([documents.text(document)])
    elif args.format == "svg":
        common.out(graph_svg.svg(manifest.name, names, edges))
    else:
        common.out({"text": graph_text.text, "mermaid": graph_text.mermaid, "dot": graph_text.dot}[args.format](names, edges))
    return EXIT_OK


def _reduced(graph: Graph, chosen: frozenset[tuple[str, str]]) -> list[tuple[str, str]]:
    import networkx

    full: networkx.DiGraph[str] = networkx.DiGraph()
    full.add_nodes_from(str(key) for key in graph.order if key in chosen)
    full.add_edges_from((str(up), str(key)) for key in graph.order if key in chosen for up in graph.before[key])
    return sorted(networkx.transitive_reduction(full).edges)
