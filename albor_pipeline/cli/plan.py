"""`plan`: shows what would happen and why. Writes nothing but caches."""

from __future__ import annotations

import argparse
import sys

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_CHANGES, EXIT_OK, UnreachableError
from albor_pipeline.run.session import Session, Wish
from albor_pipeline.ui import diagnostics, documents, plan_text
from albor_pipeline.ui.hints import Hints


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MANIFEST and what limits or colours the plan."""
    common.add_manifest(parser)
    common.add_selection(parser)
    parser.add_argument("--all", action="store_true", help="list what is unchanged too")
    parser.add_argument("--deep", action="store_true", help="read every byte of every output again, instead of trusting stat")
    parser.add_argument("--prune", action="store_true", help="take away what was made and is declared no more")
    parser.add_argument("--force", action="store_true", help="plan as if the targets had never run")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--detailed-exitcode", action="store_true", help="exit 2 when there is something to do")


def run(args: argparse.Namespace) -> int:
    """Make the plan and show it."""
    path = common.find_manifest(args.manifest)
    with Session.open(path, lambda manifest: common.state_dir(args, manifest), write=False, environment=args.env) as session:
        wish = Wish(common.selected(args, session.manifest), force=args.force, deep=args.deep, prune=args.prune)
        plan = common.plan_of(args, session, wish)
    warnings = [*session.manifest.warnings, *session.faults, *plan.diagnostics]
    if args.json:
        common.out([documents.text(documents.of_plan(plan))])
    else:
        sys.stderr.write(diagnostics.render_all(warnings, colour=False) if warnings else "")
        common.out(plan_text.plan_lines(plan, Hints.of(args), every=args.all))
    if plan.unreachable:
        return UnreachableError.exit_code
    return EXIT_CHANGES if args.detailed_exitcode and plan.changes else EXIT_OK
