"""`validate`: the manifest alone; touches no machine and no state, writes nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator

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
    common.add_environment(parser)
    parser.add_argument("--strict", action="store_true", help="warnings are errors")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Load it and say how much it declares; raises ManifestError with every problem.

    With --json a manifest that cannot be used is a document as well: the one of its errors, with the keys of this verb.
    """
    try:
        manifest, found = _checked(args)
    except ManifestError as error:
        if not args.json:
            raise
        common.out([documents.text({**documents.of_error(error), **_document(args, None, error.diagnostics)})])
        return error.exit_code
    if args.json:
        common.out([documents.text(_document(args, manifest, found))])
        return EXIT_OK
    if found:
        sys.stderr.write(diagnostics.render_all(found, colour=False))
    machines, resources = len(manifest.machines), len(manifest.resources)
    common.out([f"OK: {manifest.name} ({words.count(machines, 'machine')}, {words.count(resources, 'resource')})"])
    return EXIT_OK


def _checked(args: argparse.Namespace) -> tuple[Manifest, tuple[Diagnostic, ...]]:
    manifest = load(common.find_manifest(args.manifest), environment=args.env, further=lint.of_what_was_read)
    found = (*manifest.warnings, *findings(manifest))
    if any(item.level == "error" for item in found) or (args.strict and found):
        raise ManifestError(found)
    return manifest, found


def _document(args: argparse.Namespace, manifest: Manifest | None, found: Iterable[Diagnostic]) -> documents.Document:
    told = [documents.of_diagnostic(item) for item in found]
    return {
        **documents.head("validate"),
        "valid": manifest is not None,
        "name": manifest.name if manifest else None,
        "machines": len(manifest.machines) if manifest else None,
        "resources": len(manifest.resources) if manifest else None,
        "strict": args.strict,
        "errors": [item for item in told if args.strict or item["level"] == "error"],
        "warnings": [item for item in told if not args.strict and item["level"] == "warning"],
    }
