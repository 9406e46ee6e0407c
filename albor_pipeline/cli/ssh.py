"""`ssh`: a shell, or one command, on a machine of the manifest, in the folder where its tasks run."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from albor_pipeline.cli import common
from albor_pipeline.errors import AlborError, ManifestError
from albor_pipeline.manifest.load import load
from albor_pipeline.run.fleet import folder_of
from albor_pipeline.transport.faults import Unusable
from albor_pipeline.transport.login import words


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MACHINE, COMMAND, the manifest as an option."""
    parser.add_argument("machine", help="a machine of the manifest")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run there; without it a login shell")
    parser.add_argument("-m", "--manifest", help="the manifest (default as for plan)")
    common.add_environment(parser)


def run(args: argparse.Namespace) -> NoReturn:
    """Become that shell; the exit code is its own. Raises ManifestError for an unknown machine, AlborError without ssh."""
    manifest = load(common.find_manifest(args.manifest), environment=args.env)
    machine = manifest.machines.get(args.machine)
    if machine is None:
        known = f"declared machines: {', '.join(sorted(manifest.machines))}"
        raise ManifestError.of("unknown-machine", f"there is no machine `{args.machine}` in {manifest.path}", known)
    command = args.command[1:] if args.command[:1] == ["--"] else args.command
    try:
        argv = words(machine, manifest.root, folder_of(manifest, machine), command, terminal=sys.stdin.isatty() and sys.stdout.isatty())
    except Unusable as error:
        raise AlborError.of("no-engine", error.text, *error.ways) from None
    sys.stdout.flush()
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        way = "install it: apt-get install openssh-client"
        raise AlborError.of("no-ssh", f"{argv[0]} cannot be started: {error.strerror}", way) from None
