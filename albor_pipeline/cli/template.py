"""`template`: one resource with everything resolved, as YAML, without the passwords of addresses. Touches no machine and no state."""

from __future__ import annotations

import argparse

from albor_pipeline.cli import common
from albor_pipeline.errors import EXIT_OK, ManifestError
from albor_pipeline.manifest.load import load
from albor_pipeline.manifest.names import closest
from albor_pipeline.manifest.resolved import as_yaml
from albor_pipeline.model.addresses import shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """RESOURCE, --machine, the manifest as an option."""
    parser.add_argument("resource", help="the resource, or RESOURCE@MACHINE")
    parser.add_argument("--machine", help="the copy on this machine")
    parser.add_argument("-m", "--manifest", help="the manifest (default as for plan)")
    common.add_environment(parser)


def run(args: argparse.Namespace) -> int:
    """Print it; copies that differ from machine to machine are documents of their own."""
    manifest = load(common.find_manifest(args.manifest), environment=args.env)
    keys = common.keys_of(args.resource, manifest)
    resource = manifest.resources[args.resource.partition("@")[0]]
    if resource.fields is None:
        note = "`plan` reads it: this command runs nothing"
        raise ManifestError.of("not-known-yet", f"`{resource.id}` takes a number or a name from a data source", note, span=resource.span)
    machines = tuple(name for name in resource.machines if any(key.machine == name for key in keys))
    if args.machine is not None and args.machine not in machines:
        near = closest(args.machine, machines)
        notes = [f"did you mean `{near}`?"] if near else []
        raise ManifestError.of(
            "unknown-machine", f"`{resource.id}` is not on a machine `{args.machine}`", *notes, f"it is on: {', '.join(machines)}"
        )
    if args.machine is not None:
        machines = (args.machine,)
    groups = [(name,) for name in machines] if resource.fields_by_machine else [machines]
    common.out([shown("---\n".join(as_yaml(resource, group) for group in groups).rstrip("\n"))])
    return EXIT_OK
