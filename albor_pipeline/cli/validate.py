"""`validate`: the manifest alone; touches no machine and no state, writes nothing."""

from __future__ import annotations

import argparse
import sys

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK, ManifestError
from albor_pipeline.manifest.load import load
from albor_pipeline.ui import diagnostics, documents, words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MANIFEST, --strict, --json."""
    parser.add_argument("manifest", nargs="?", help="manifests/albor.yaml, else the only one in manifests/")
    common.add_environment(parser)
    parser.add_argument("--strict", action="store_true", help="warnings are errors")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Load it and say how much it declares; raises ManifestError with every problem."""
    manifest = load(common.find_manifest(args.manifest), environment=args.env)
    if args.strict and manifest.warnings:
        raise ManifestError(manifest.warnings)
    if manifest.warnings and not args.json:
        sys.stderr.write(diagnostics.render_all(manifest.warnings, colour=False))
    machines, resources = len(manifest.machines), len(manifest.resources)
    if args.json:
        counts = {"valid": True, "name": manifest.name, "machines": machines, "resources": resources, "strict": args.strict, "errors": []}
        warnings = [documents.of_diagnostic(item) for item in manifest.warnings]
        common.out([documents.text({**documents.head("validate"), **counts, "warnings": warnings})])
    else:
        common.out([f"OK: {manifest.name} ({words.count(machines, 'machine')}, {words.count(resources, 'resource')})"])
    return EXIT_OK
