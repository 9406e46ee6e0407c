"""`attach`: follow a running task's log to its end; leaving it (Ctrl-C) leaves the task running. Takes no lock."""

from __future__ import annotations

import argparse

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_FAILED, EXIT_OK
from albor_pipeline.run.follow import Follower, newest
from albor_pipeline.run.session import Session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """TASK."""
    common.add_task(parser)


def run(args: argparse.Namespace) -> int:
    """Follow it; exits 0 when it ended well, 3 when it did not."""
    path = common.find_manifest(args.manifest)
    with Session.open(path, lambda manifest: common.state_dir(args, manifest), write=False, environment=args.env) as session:
        common.tell_unmasked(session.vault.missing())
        key = sorted(common.keys_of(args.task, session.manifest))[0]
        attempt = newest(session, key, None)
        follower = Follower(session, key, attempt.number)
        end = follower.print_log(common.out_now, follow=True)
    ended = end.exit
    word = "ended well" if ended and ended.ok else f"ended: {ended.detail if ended else 'no proof of its end'}"
    common.err([f"{key.resource}, attempt {end.number}: {word}. The next apply records it."])
    return EXIT_OK if ended and ended.ok else EXIT_FAILED
