"""`state`: makes a lost state folder again from the machines, or takes over what forjar recorded. Runs no task."""

from __future__ import annotations

import argparse
from pathlib import Path

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK, StateError
from albor_pipeline.manifest.load import load
from albor_pipeline.run.rebuild import rebuild
from albor_pipeline.ui.hints import Hints


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """rebuild, or import PATH; MANIFEST."""
    ways = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    common.add_manifest(ways.add_parser("rebuild", help="from attempts and proofs on the machines"))
    imports = ways.add_parser("import", help="from forjar's lock files, once")
    imports.add_argument("path", help="a state.lock.yaml of forjar, or the folder of its state")
    common.add_manifest(imports)


def run(args: argparse.Namespace) -> int:
    """Do it, and say what was found."""
    return _import(args) if args.what == "import" else _rebuild(args)


def _rebuild(args: argparse.Namespace) -> int:
    manifest = load(common.find_manifest(args.manifest), environment=args.env)
    found = rebuild(manifest, common.state_dir(args, manifest))
    common.out([f"  {key}: {text}" for key, text in found])
    common.out([f"Rebuilt from {len(found)} proven results. To see what is left to do: {Hints.of(args).at(manifest.path).again('plan')}"])
    return EXIT_OK


def _import(args: argparse.Namespace) -> int:
    from albor_pipeline.run.importing import import_forjar
    from albor_pipeline.run.session import Session

    path, given = common.find_manifest(args.manifest), Path(args.path)
    own = common.state_dir(args, load(path, environment=args.env)).resolve()
    if given.exists() and own in (given.resolve(), *given.resolve().parents):
        note = f"move it first: mv {own.name} forjar-{own.name}"
        raise StateError.of("import", f"{args.path} lies where albor-pipeline writes its own state, over what forjar left", note)
    with Session.open(path, lambda manifest: common.state_dir(args, manifest), write=True, environment=args.env) as session:
        told = import_forjar(session, given)
    common.out([f"  {key}: {text}" for key, text, _ in told])
    taken = sum(imported for _, _, imported in told)
    common.out([f"Imported {taken} of {len(told)}. To see what is left to do: {Hints.of(args).at(path).again('plan')}"])
    return EXIT_OK
