"""`cancel`: end a running task, its whole process group, and wait until it is over. Takes no lock."""

from __future__ import annotations

import argparse

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK
from albor_pipeline.model.attempt import Liveness
from albor_pipeline.run.follow import Follower, newest
from albor_pipeline.run.session import Session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """TASK."""
    common.add_task(parser)


def run(args: argparse.Namespace) -> int:
    """Ask its supervisor to end it; says so when nothing was running."""
    path = common.find_manifest(args.manifest)
    with Session.open(path, lambda manifest: common.state_dir(args, manifest), write=False, environment=args.env) as session:
        for key in sorted(common.keys_of(args.task, session.manifest)):
            attempt = newest(session, key, None)
            if attempt.liveness not in (Liveness.ALIVE, Liveness.UNSUPERVISED):
                common.out([f"{key}: nothing is running (attempt {attempt.number} is over)."])
                continue
            end = Follower(session, key, attempt.number).cancel()
            how = end.exit.exit_class.value if end.exit else end.liveness.value
            common.out([f"{key}: attempt {attempt.number} ended ({how})."])
    return EXIT_OK
