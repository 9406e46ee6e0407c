"""`state rebuild`: makes a lost or outdated state folder again from what the machines hold. Runs no task."""

from __future__ import annotations

import argparse

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK
from albor_pipeline.manifest.load import load
from albor_pipeline.run.rebuild import rebuild


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """rebuild, MANIFEST."""
    parser.add_argument("what", choices=("rebuild",), help="rebuild: from attempts and proofs on the machines")
    common.add_manifest(parser)


def run(args: argparse.Namespace) -> int:
    """Rebuild, and say what was found."""
    manifest = load(common.find_manifest(args.manifest), environment=args.env)
    found = rebuild(manifest, common.state_dir(args, manifest))
    common.out([f"  {key}: {text}" for key, text in found])
    common.out([f"Rebuilt from {len(found)} proven results. To see what is left to do: albor-pipeline plan {manifest.path}"])
    return EXIT_OK
