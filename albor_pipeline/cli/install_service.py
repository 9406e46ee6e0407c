"""`install-service`: a systemd unit that applies the manifest again after every boot. Starts nothing now."""

from __future__ import annotations

import argparse
import subprocess
from getpass import getuser

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK
from albor_pipeline.manifest.load import load
from albor_pipeline.run.data import fetcher
from albor_pipeline.run.service import Service, service_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MANIFEST, --keep-going, --yes, --print, --remove."""
    common.add_manifest(parser)
    parser.add_argument("--keep-going", action="store_true", help="the service goes on after a failure with what does not depend on it")
    parser.add_argument("--yes", action="store_true", help="the service destroys and overwrites without asking")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--print", action="store_true", help="show the unit, install nothing")
    way.add_argument("--remove", action="store_true", help="take the unit away")


def run(args: argparse.Namespace) -> int:
    """Install, show or remove it."""
    path = common.find_manifest(args.manifest)
    manifest = load(path, environment=args.env, fetch=fetcher)
    given = {"--env": args.env, "--state-dir": args.state_dir and str(common.state_dir(args, manifest).resolve())}
    words = [word for option, value in given.items() if value for word in (option, value)]
    words += [option for option, on in (("--keep-going", args.keep_going), ("--yes", args.yes)) if on]
    service = service_of(manifest, path, words)
    if args.print:
        common.out(service.text.splitlines())
    elif args.remove:
        service.remove()
        common.out([f"{service.name} is removed; what runs goes on."])
    else:
        service.install()
        common.out([f"{service.path} starts `apply` at every boot.", f"To start it now: {service.control} start {service.name}"])
        common.out(_lingering(service))
    return EXIT_OK


def _lingering(service: Service) -> list[str]:
    """A user's services start at boot only where the user lingers."""
    if not service.user:
        return []
    said = subprocess.run(["loginctl", "show-user", getuser(), "--property=Linger"], capture_output=True, text=True, check=False)
    return [] if "yes" in said.stdout else [f"It starts at your next login. To start it at boot: loginctl enable-linger {getuser()}"]
