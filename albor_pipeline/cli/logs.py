"""`logs`: the log of a task's newest attempt, from its machine; of what is no task, what it printed when it failed; of a hook, too."""

from __future__ import annotations

import argparse
import sys

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK, UsageError
from albor_pipeline.resources.fields import parse_seconds
from albor_pipeline.run.follow import Follower, kept_hook_log, kept_log, newest
from albor_pipeline.run.session import Session

HOOKS = ("policy.pre_apply", "policy.post_apply", "policy.notify.on_success", "policy.notify.on_failure")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """TASK, -f, --since, --attempt."""
    common.add_task(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the attempt ends")
    parser.add_argument("--since", metavar="TIME", help="only what came in the last 10m, 2h and so on, to about ten seconds")
    parser.add_argument("--attempt", type=int, help="another attempt than the newest")


def run(args: argparse.Namespace) -> int:
    """Print it."""
    try:
        since_s = None if args.since is None else parse_seconds(args.since)
    except ValueError:
        raise UsageError.of("usage", f"--since takes a time such as 90s, 10m or 1h30m, not {args.since!r}") from None
    path = common.find_manifest(args.manifest)
    with Session.open(path, lambda manifest: common.state_dir(args, manifest), write=False, environment=args.env) as session:
        common.tell_unmasked(session.vault.missing())
        if args.task in HOOKS and args.task not in session.manifest.resources:
            sys.stdout.write(kept_hook_log(session, args.task))
            return EXIT_OK
        for key in sorted(common.keys_of(args.task, session.manifest)):
            if session.manifest.resources[key.resource].kind != "task":
                sys.stdout.write(kept_log(session, key))
                continue
            follower = Follower(session, key, newest(session, key, args.attempt).number)
            follower.print_log(common.out_now, follow=args.follow, since_s=since_s)
    return EXIT_OK
