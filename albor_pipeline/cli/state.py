"""`state`: what is recorded: shown, edited by hand, made again from the machines, or taken over from forjar. Runs no task."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK, StateError
from albor_pipeline.manifest.load import load
from albor_pipeline.run import edit
from albor_pipeline.run.importing import import_forjar
from albor_pipeline.run.rebuild import rebuild
from albor_pipeline.run.session import Session
from albor_pipeline.state.codec import entry_to_json
from albor_pipeline.ui import documents, state_text
from albor_pipeline.ui.hints import Hints

WAYS = {
    "list": "every row, with what is in force and since when",
    "show": "one row, whole",
    "mv": "give a row another name, as `moved` in the manifest does",
    "rm": "forget a row; what it is about stays where it is",
    "use": "put another kept result of a task back, and in force",
    "rebuild": "make a lost state again, from attempts and proofs on the machines",
    "import": "take over forjar's lock files, once",
}
ARGUMENTS = {
    "show": (("row", "RESOURCE or RESOURCE@MACHINE"),),
    "mv": (("row", "the name it has"), ("to", "the name it gets")),
    "rm": (("row", "RESOURCE or RESOURCE@MACHINE"),),
    "use": (("row", "RESOURCE or RESOURCE@MACHINE"), ("result", "the result, as `store show` names it; its beginning is enough")),
    "import": (("path", "a state.lock.yaml of forjar, or the folder of its state"),),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """list, show ROW, mv ROW TO, rm ROW, use ROW RESULT, rebuild, or import PATH; MANIFEST."""
    ways = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for name, does in WAYS.items():
        sub = ways.add_parser(name, help=does, description=does)
        for argument, about in ARGUMENTS.get(name, ()):
            sub.add_argument(argument, help=about)
        common.add_manifest(sub)
        if name in ("list", "show"):
            sub.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Do it, and say what was done or found."""
    if args.what == "import":
        return _import(args)
    if args.what == "rebuild":
        return _rebuild(args)
    path, reads = common.find_manifest(args.manifest), args.what in ("list", "show")
    with Session.open(path, lambda manifest: common.state_dir(args, manifest), write=not reads, environment=args.env) as session:
        common.out(_read(args, session) if reads else _edit(args, session))
    return EXIT_OK


def _read(args: argparse.Namespace, session: Session) -> Iterable[str]:
    entries = session.state.entries
    keys = sorted(entries) if args.what == "list" else [edit.key_of(session, args.row)]
    rows = [{"machine": key.machine, **entry_to_json(entries[key])} for key in keys]
    document = {**documents.head(f"state {args.what}"), "lineage": session.state.lineage, "serial": session.state.serial, "rows": rows}
    if args.json:
        return [documents.text(document)]
    return state_text.list_lines(document) if args.what == "list" else state_text.row_lines(rows[0])


def _edit(args: argparse.Namespace, session: Session) -> list[str]:
    if args.what == "mv":
        old, new = edit.rename(session, args.row, args.to)
        return [f"{old} is {new} now."]
    if args.what == "rm":
        return [f"{edit.forget(session, args.row)}: forgotten; nothing else was touched."]
    key, kept = edit.use(session, args.row, args.result)
    moved = [f"what lay at its outputs is now {kept}"] if kept else []
    return [f"{key}: result {args.result} is in force.", *moved]


def _rebuild(args: argparse.Namespace) -> int:
    manifest = load(common.find_manifest(args.manifest), environment=args.env)
    found = rebuild(manifest, common.state_dir(args, manifest))
    common.out([f"  {key}: {text}" for key, text in found])
    common.out([f"Rebuilt from {len(found)} proven results. To see what is left to do: {Hints.of(args).at(manifest.path).again('plan')}"])
    return EXIT_OK


def _import(args: argparse.Namespace) -> int:
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
