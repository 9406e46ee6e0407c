"""`import`: records a thing that is there already, as it is found. Changes no machine."""

from __future__ import annotations

import argparse

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK
from albor_pipeline.run.importing import import_found
from albor_pipeline.run.session import Session
from albor_pipeline.ui.hints import Hints


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """TYPE, NAME, the manifest as an option."""
    parser.add_argument("type", help="the type of the resource, as declared")
    parser.add_argument("name", help="RESOURCE or RESOURCE@MACHINE, as declared")
    parser.add_argument("-m", "--manifest", help="the manifest (default as for plan)")
    common.add_state(parser)


def run(args: argparse.Namespace) -> int:
    """Look at it, record what is there, and say what the next plan would change."""
    path = common.find_manifest(args.manifest)
    with Session.open(path, lambda manifest: common.state_dir(args, manifest), write=True, environment=args.env) as session:
        told = import_found(session, args.type, common.keys_of(args.name, session.manifest))
    common.out([*told, f"No machine was changed. To see what is left to do: {Hints.of(args).at(path).again('plan')}"])
    return EXIT_OK
