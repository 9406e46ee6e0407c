"""`audit`: whether the journal is unchanged (integrity) and whole (completeness), told apart. Takes no lock."""

from __future__ import annotations

import argparse

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK, StateError
from albor_pipeline.model.resource import Key
from albor_pipeline.run.session import Session
from albor_pipeline.ui import documents


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """MANIFEST, --json."""
    common.add_manifest(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Check the chain, and compare its head with what each machine remembers; exits 1 when something is wrong."""
    path = common.find_manifest(args.manifest)
    with Session.open(path, lambda manifest: common.state_dir(args, manifest), write=False) as session:
        session.fleet.open(sorted(key.machine for key in (Key("", name) for name in session.manifest.machines)))
        heads = {name: agent.hello.get("head") for name, agent in session.fleet.agents.items()}
        report = session.folder.audit(heads)
    if args.json:
        document = {"integrity": list(report.integrity), "completeness": list(report.completeness), "records": report.records}
        common.out([documents.text({**documents.head("audit"), **document})])
    else:
        common.out([f"{report.records} records, head {report.head[:16]}"])
        common.out([f"integrity: {'; '.join(report.integrity) or 'every record is as it was written'}"])
        common.out([f"completeness: {'; '.join(report.completeness) or 'nothing is missing that a machine remembers'}"])
    return StateError.exit_code if report.integrity or report.completeness else EXIT_OK
