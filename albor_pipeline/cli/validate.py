"""`validate`: the manifest alone; touches no machine and no state, writes nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK, Diagnostic, ManifestError
from albor_pipeline.manifest.load import load
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.plan.flow import Flow, paths_of_checks
from albor_pipeline.plan.graph import build
from albor_pipeline.plan.inputs import Inputs
from albor_pipeline.run import lint
from albor_pipeline.run.presence import present
from albor_pipeline.ui import diagnostics, documents, words


def findings(manifest: Manifest) -> Iterator[Diagnostic]:
    """What is wrong with a manifest that can be read: reads without an order, checks of files that nothing makes, shell text."""
    graph = build(manifest)
    flow = Flow(manifest, graph, Inputs(manifest, graph), present(manifest, paths_of_checks(manifest)))
    yield from flow.declared(graph.order)
    yield from lint.findings(manifest, keep=False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MANIFEST, --strict, --json."""
    parser.add_argument("manifest", nargs="?", help="manifests/albor.yaml, else the only one in manifests/")
    parser.add_argument("--strict", action="store_true", help="warnings are errors")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Load it and say how much it declares; raises ManifestError with every problem."""
    manifest = load(common.find_manifest(args.manifest))
    found = (*manifest.warnings, *findings(manifest))
    if any(item.level == "error" for item in found) or (args.strict and found):
        raise ManifestError(found)
    if found and not args.json:
        sys.stderr.write(diagnostics.render_all(found, colour=False))
    machines, resources = len(manifest.machines), len(manifest.resources)
    if args.json:
        counts = {"valid": True, "name": manifest.name, "machines": machines, "resources": resources, "strict": args.strict, "errors": []}
        warnings = [documents.of_diagnostic(item) for item in found]
        common.out([documents.text({**documents.head("validate"), **counts, "warnings": warnings})])
    else:
        common.out([f"OK: {manifest.name} ({words.count(machines, 'machine')}, {words.count(resources, 'resource')})"])
    return EXIT_OK
