"""`apply`: makes the plan and does it; the same command continues after any outage."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from albor_pipeline.cli import common
from albor_pipeline.errors import (
    EXIT_DRIFT,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    DriftError,
    ManifestError,
    StalePlan,
    UnreachableError,
    UsageError,
)  # fmt: skip
from albor_pipeline.model.manifest import Manifest, project_root
from albor_pipeline.model.plan import Action
from albor_pipeline.run.unchanged import Said, recall, remember

if TYPE_CHECKING:
    from albor_pipeline.model.events import RunReport
    from albor_pipeline.model.plan import Plan
    from albor_pipeline.run.limits import Leave
    from albor_pipeline.ui import documents

STDERR = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MANIFEST, what limits the run, and what it may do without asking."""
    common.add_manifest(parser)
    common.add_selection(parser)
    parser.add_argument("--yes", action="store_true", help="destroy and overwrite without asking")
    parser.add_argument("--prune", action="store_true", help="take away what was made and is declared no more")
    parser.add_argument("--force", action="store_true", help="run the targets again whatever is recorded")
    parser.add_argument("--replace", action="append", default=[], metavar="TASK", help="cancel its running attempt, start the wanted one")
    parser.add_argument("--keep-going", action="store_true", help="after a failure go on with what does not depend on it")
    parser.add_argument("--max-parallel", type=int, metavar="N", help="at most N at once")
    parser.add_argument("--deep", action="store_true", help="read every byte of every output again, instead of trusting stat")
    parser.add_argument("--no-move", action="store_true", help="bring nothing from machine to machine; what that would need is refused")
    parser.add_argument("--detach", action="store_true", help="plan and ask here, then go on without this terminal")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end")


def run(args: argparse.Namespace) -> int:
    """Plan, ask where something would be lost, run, and say what became of it."""
    if args.max_parallel is not None and args.max_parallel < 1:
        raise UsageError.of("usage", "--max-parallel takes a number from 1")
    path = common.find_manifest(args.manifest)
    asked = None if args.deep else {**vars(args), "manifest": str(path), "command_line": None, "detach": False}
    said = recall(project_root(path), asked) if asked is not None else None
    return _say(said) if said is not None else _apply(args, path, asked)


def _say(said: Said) -> int:
    sys.stderr.write(said.err)
    sys.stdout.write(said.out)
    return EXIT_OK


def _apply(args: argparse.Namespace, path: Path, asked: Mapping[str, Any] | None) -> int:
    from albor_pipeline.run.session import Papers, Session, Wish
    from albor_pipeline.run.signals import Interrupts
    from albor_pipeline.transport.client import Maker
    from albor_pipeline.ui import diagnostics, documents, plan_text, run_text
    from albor_pipeline.ui.hints import Hints
    from albor_pipeline.ui.live import reporter

    maker = Maker(lambda text: common.err([text]))
    with Session.open(path, lambda manifest: common.state_dir(args, manifest), write=True, environment=args.env, maker=maker) as session:
        replace = frozenset(key for name in args.replace for key in common.keys_of(name, session.manifest))
        wish = Wish(
            common.selected(args, session.manifest), args.force, replace, args.keep_going, args.max_parallel, args.deep, args.no_move,
            args.prune, args.yes,
        )  # fmt: skip
        plan = common.plan_of(args, session, wish)
        warnings = [*session.manifest.warnings, *session.faults, *plan.diagnostics]
        warned = diagnostics.render_all(warnings, colour=False) if warnings else ""
        if not plan.changes:
            text = documents.text(documents.of_plan(plan)) if args.json else plan_text.plan_lines(plan, Hints.of(args))[-1]
            said = Said(f"{text}\n", warned)
            if asked is not None:
                remember(session, asked, said)
            return _say(said)
        sys.stderr.write(warned)
        _refuse_drift(session.manifest, plan)
        ask(plan, args.yes)
        if not args.detach:
            with reporter(plan, sys.stderr, Hints.of(args)) as report, Interrupts(told) as interrupts:
                papers = Papers(to_bytes(documents.of_plan(plan)), lambda done: to_bytes(documents.of_report(done)))
                done = session.apply(plan, wish, papers, report, interrupts.leave)
        state_dir = session.folder.root
    if args.detach:
        return _detach(args, state_dir, warned, sure=any(step.overwrites for step in plan.steps))
    if args.json:
        common.out([documents.text(documents.of_report(done))])
    else:
        common.out(run_text.report_lines(done, Hints.of(args), plan.manifest))
    return code_of(done)


def _detach(args: argparse.Namespace, state_dir: Path, warned: str, *, sure: bool) -> int:
    """Leave the rest to a process of its own, which warns as was `warned` here; `sure`: what would be overwritten was agreed to here."""
    from albor_pipeline.run import detach
    from albor_pipeline.ui.hints import Hints

    words = [word for word in args.command_line if word != "--detach"]
    begun = detach.start([*words, *(["--yes"] if sure and not args.yes else [])], state_dir)
    sys.stderr.write(begun.said.replace(warned, "", 1))
    if begun.code is not None:
        return begun.code
    common.out([
        f"It goes on by itself (pid {begun.pid}): {Hints.of(args).again('status')}",
        f"To read along: tail -f {shlex.quote(str(begun.log))}",
        f"To stop it and leave its tasks running: kill {begun.pid}",
    ])  # fmt: skip
    return EXIT_OK


def _refuse_drift(manifest: Manifest, plan: Plan) -> None:
    """Raises DriftError when something drifted and the policy is to begin nothing then."""
    drifted = [f"{step.key}: {step.reason.text}" for step in plan.steps if step.action is Action.LEAVE or step.reason.code == "drifted"]
    if drifted and manifest.policy.drift == "fail":
        way = "mend it by hand, or choose what to do: `policy.drift: heal` or `report`"
        raise DriftError.of("drifted", f"{len(drifted)} drifted, and `policy.drift` is fail: nothing was begun", *drifted, way)


def ask(plan: Plan, yes: bool, *, always: bool = False, further: Sequence[str] = ()) -> None:
    """Ask the user where something would be lost, or `always`; raises ManifestError when there is no terminal, or the answer is no."""
    told = [*(f"{step.key}: {step.reason.text}" for step in plan.steps if always or step.overwrites), *further]
    if not told or yes:
        return
    if not sys.stdin.isatty():
        way = "without a terminal that needs --yes; task outputs are kept aside in .albor/kept/ first"
        raise ManifestError.of("needs-yes", f"this would overwrite or destroy what is there: {told[0]}", *told[1:], way)
    common.err(["This would overwrite or destroy what is there:", *(f"  {line}" for line in told)])
    sys.stderr.write("Go on? [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ManifestError.of("declined", "nothing was changed")


def to_bytes(document: documents.Document) -> bytes:
    """A document as it is kept in a file."""
    from albor_pipeline.ui import documents

    return (documents.text(document) + "\n").encode()


def told(leave: Leave) -> None:
    """Say what a Ctrl-C does."""
    from albor_pipeline.run.limits import Leave

    if leave is Leave.STOP:
        text = "Stopping: nothing new starts, what is running goes on. Ctrl-C again within 3 s cancels it."
    else:
        text = "Cancelling what is running; waiting for it to end."
    try:
        common.err(["", text])
    except RuntimeError:  # it came upon another line that is being written
        os.write(STDERR, f"\n{text}\n".encode())


def code_of(done: RunReport) -> int:
    """The exit code of a run."""
    if done.interrupted:
        return EXIT_INTERRUPTED
    unreachable = bool(done.lost or done.counts.get("unreachable"))
    if done.broken or done.stale or done.counts.get("held"):
        return UnreachableError.exit_code if unreachable and not (done.broken or done.stale) else StalePlan.exit_code
    if done.failed or done.counts.get("cancelled"):
        return EXIT_FAILED
    if done.counts.get("unreachable"):
        return UnreachableError.exit_code
    return EXIT_DRIFT if done.counts.get("drifted") else EXIT_OK
