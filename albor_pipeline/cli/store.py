"""`store`: what is kept on the machines: listed, shown, read again, and cleaned of what nobody needs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_DRIFT, EXIT_OK, UnreachableError, UsageError
from albor_pipeline.run.session import Session
from albor_pipeline.ui import documents, store_text

WAYS = {
    "ls": "every result that is kept, with its size",
    "show": "the results of one task: what each was made from, and which is in force",
    "verify": "read all that is kept again; what is corrupt is named and set aside",
    "gc": "take away what is neither in force nor made by one of the last runs",
}
KEEP_RUNS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """ls | show TASK | verify | gc, MANIFEST, --machine, --json; gc: --keep-runs, --dry-run."""
    ways = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for name, does in WAYS.items():
        sub = ways.add_parser(name, help=does, description=does)
        if name == "show":
            common.add_task(sub)
        else:
            common.add_manifest(sub)
        if name == "gc":
            sub.add_argument("--keep-runs", type=int, default=KEEP_RUNS, metavar="N", help="runs that keep what they made (default 3)")
            sub.add_argument("--dry-run", action="store_true", help="only say what would go")
        sub.add_argument("--machine", action="append", default=[], help="only the store of this machine")
        sub.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Ask every machine; one that does not answer is named, and the others are shown."""
    if args.what == "gc" and args.keep_runs < 0:
        raise UsageError.of("usage", "--keep-runs must be 0 or more")
    path, cleans = common.find_manifest(args.manifest), args.what == "gc" and not args.dry_run
    with Session.open(path, lambda manifest: common.state_dir(args, manifest), write=cleans, environment=args.env) as session:
        keys = common.keys_of(args.task, session.manifest) if args.what == "show" else None
        session.open_machines(args.machine)
        document: dict[str, Any] = {**documents.head(f"store {args.what}"), "machines": list(_answers(session, args))}
        if keys is not None:
            wanted = {(key.resource, key.machine) for key in keys}
            for machine in document["machines"]:
                machine["results"] = [one for one in machine["results"] if (one["resource"], machine["machine"]) in wanted]
        document["unreachable"] = dict(session.fleet.errors)
    common.out([documents.text(document)] if args.json else store_text.LINES[args.what](document))
    if any(machine.get("corrupt") for machine in document["machines"]):
        return EXIT_DRIFT
    return UnreachableError.exit_code if document["unreachable"] else EXIT_OK


def _answers(session: Session, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    in_force = {key: _id(session, key) for key, entry in session.state.entries.items() if entry.in_force is not None}
    for name, agent in sorted(session.fleet.agents.items()):
        held = [(key.resource, *found) for key, found in in_force.items() if key.machine == name]
        if args.what == "verify":
            yield {"machine": name, **_body(agent.request("store_verify"))}
        elif args.what == "gc":
            asked = {"keep_runs": args.keep_runs, "dry_run": args.dry_run, "in_force": held}
            yield {"machine": name, "dry_run": args.dry_run, **_body(agent.request("store_clean", **asked))}
        else:
            results = agent.request("store_list")["results"]
            marked = [{**one, "in_force": (one["resource"], one["fingerprint"], one["id"]) in held} for one in results]
            yield {"machine": name, "results": marked}


def _body(reply: Any) -> dict[str, Any]:
    return {key: value for key, value in reply.items() if key not in ("id", "ok")}


def _id(session: Session, key: Any) -> tuple[str, str]:
    from albor_pipeline.agent.results import result_id

    result = session.state.entries[key].in_force
    assert result is not None
    outputs = {path: {"root": proof.root} for path, proof in result.outputs.items()}
    return result.fingerprint.digest(digest_bytes), result_id(outputs)
