"""`provision plan|apply`: as `plan` and `apply`, for what is no task, after asking the machines whether it can work at all."""

from __future__ import annotations

import argparse

from albor_pipeline.cli import apply, plan

WAYS = {"plan": plan, "apply": apply}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """plan or apply, each with its own arguments."""
    ways = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for name, module in WAYS.items():
        about = "what would be made, and whether the machines can" if name == "plan" else "make it"
        module.add_arguments(ways.add_parser(name, help=about, description=about))


def run(args: argparse.Namespace) -> int:
    """Plan or apply; common.selected() and common.plan_of() know the verb."""
    code: int = WAYS[args.what].run(args)
    return code
