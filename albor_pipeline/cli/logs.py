"""`logs`: the log of a task's newest attempt, from its machine. Takes no lock."""

from __future__ import annotations

import argparse
import sys

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK
from albor_pipeline.run.follow import Follower, newest
from albor_pipeline.run.session import Session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """TASK, -f, --attempt."""
    common.add_task(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the attempt ends")
    parser.add_argument("--attempt", type=int, help="another attempt than the newest")


def run(args: argparse.Namespace) -> int:
    """Print it."""
    path = common.find_manifest(args.manifest)
    with Session.open(path, lambda manifest: common.state_dir(args, manifest), write=False, environment=args.env) as session:
        common.tell_unmasked(session.vault.missing())
        for key in sorted(common.keys_of(args.task, session.manifest)):
            follower = Follower(session, key, newest(session, key, args.attempt).number)
            follower.print_log(sys.stdout.write, follow=args.follow)
    return EXIT_OK
