"""`audit`: whether the journal is unchanged (integrity) and whole (completeness), told apart. Takes no lock."""

from __future__ import annotations

import argparse

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK, StateError
from albor_pipeline.run.session import Session
from albor_pipeline.ui import documents


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MANIFEST, --json."""
    common.add_manifest(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Check the chain, and compare its head with what each machine remembers; exits 1 when something is wrong."""
    path = common.find_manifest(args.manifest)
    with Session.open(path, lambda manifest: common.state_dir(args, manifest), write=False, environment=args.env) as session:
        session.fleet.open(sorted(session.manifest.machines))
        heads = {name: agent.hello["head"] for name, agent in session.fleet.agents.items() if agent.hello.get("head")}
        report = session.folder.audit(heads)
    if args.json:
        document = {
            "integrity": list(report.integrity), "completeness": list(report.completeness), "notes": list(report.notes),
            "lines": report.lines, "head": report.head.digest,
        }  # fmt: skip
        common.out([documents.text({**documents.head("audit"), **document})])
    else:
        common.out([f"{report.lines} records, head {report.head.digest[:16]}"])
        common.out([f"integrity: {'; '.join(report.integrity) or 'every record is as it was written'}"])
        common.out([f"completeness: {'; '.join(report.completeness) or 'nothing is missing that a machine remembers'}"])
        common.out(f"note: {note}" for note in report.notes)
    return StateError.exit_code if report.integrity or report.completeness else EXIT_OK
