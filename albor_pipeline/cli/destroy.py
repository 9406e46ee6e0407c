"""`destroy`: takes away what was made, dependents first, after showing it and asking. Touches no output of a task."""

from __future__ import annotations

import argparse
import sys

from albor_pipeline.cli import common
from albor_pipeline.cli.apply import ask, code_of, to_bytes, told
from albor_pipeline.errors import EXIT_OK, UnreachableError
from albor_pipeline.run import containers
from albor_pipeline.run.session import Papers, Session
from albor_pipeline.run.signals import Interrupts
from albor_pipeline.ui import documents, plan_text, run_text
from albor_pipeline.ui.hints import Hints
from albor_pipeline.ui.live import reporter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MANIFEST, selection, --yes, --json."""
    common.add_manifest(parser)
    common.add_selection(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")


def run(args: argparse.Namespace) -> int:
    """Show what would go, ask, and do it."""
    path = common.find_manifest(args.manifest)
    with Session.open(path, lambda manifest: common.state_dir(args, manifest), write=True, environment=args.env) as session:
        plan = session.plan_undo(common.selected(args, session.manifest))
        common.err(plan_text.undo_lines(plan, Hints.of(args)) if plan.steps else [])
        if plan.unreachable:
            names = ", ".join(plan.unreachable)
            raise UnreachableError.of("unreachable", f"{names}: does not answer; nothing was destroyed")
        if not plan.steps and not session.going:
            common.out(["Nothing to destroy: nothing of it is recorded."])
            return EXIT_OK
        ask(plan, args.yes, always=True, further=[f"{name}: its container goes, with all that is in it" for name in session.going])
        with reporter(plan, sys.stderr, Hints.of(args)) as report, Interrupts(told) as interrupts:
            papers = Papers(to_bytes(documents.of_plan(plan)), lambda done: to_bytes(documents.of_report(done)))
            done = session.undo(plan, papers, report, interrupts.leave)
        common.err(containers.remove(session.manifest, session.going, session.state))
    if args.json:
        common.out([documents.text(documents.of_report(done))])
    else:
        common.out(run_text.report_lines(done, Hints.of(args), plan.manifest))
    return code_of(done)
