"""What the verbs share: arguments, finding the manifest, selecting resources, writing lines. Parses no verb."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from albor_pipeline.errors import Diagnostic, ManifestError, UsageError
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.resource import Key

if TYPE_CHECKING:
    from albor_pipeline.model.plan import Plan
    from albor_pipeline.run.session import Session, Wish

FOLDER = Path("manifests")
PIPELINE = re.compile(r'"pipeline":("(?:[^"\\]|\\.)*")')
NAME = re.compile(r"""^name: *["']?([^"'#\n]*?)["']? *(?:#.*)?$""", re.MULTILINE)
DEFAULT = FOLDER / "albor.yaml"


def add_manifest(parser: argparse.ArgumentParser) -> None:
    """MANIFEST and --state-dir, which most verbs take."""
    parser.add_argument("manifest", nargs="?", help="the one whose state is here, manifests/albor.yaml, else the only one in manifests/")
    add_state(parser)


def add_state(parser: argparse.ArgumentParser) -> None:
    """--state-dir, for verbs whose positional argument is a task; the manifest is then an option."""
    parser.add_argument("--state-dir", help="where the state lies (default: state/ beside manifests/)")
    add_environment(parser)


def add_environment(parser: argparse.ArgumentParser) -> None:
    """--env, for every verb that reads the manifest."""
    parser.add_argument("--env", metavar="NAME", help="the environment whose params and addresses count; it has a state of its own")


def add_task(parser: argparse.ArgumentParser) -> None:
    """TASK, and the manifest as an option."""
    parser.add_argument("task", help="the resource, or RESOURCE@MACHINE")
    parser.add_argument("-m", "--manifest", help="the manifest (default as for plan)")
    add_state(parser)


def add_selection(parser: argparse.ArgumentParser) -> None:
    """--target, --machine, --tag, --group."""
    parser.add_argument("--target", action="append", default=[], metavar="RESOURCE", help="only this and what it needs")
    parser.add_argument("--machine", action="append", default=[], help="only resources on this machine, and what they need")
    parser.add_argument("--tag", action="append", default=[], help="only resources with this tag, and what they need")
    parser.add_argument("--group", action="append", default=[], help="only resources of this resource_group, and what they need")


def find_manifest(given: str | None) -> Path:
    """The manifest to use: the one whose state is here, manifests/albor.yaml, or the only one.

    Raises UsageError naming the candidates when there is no single one.
    """
    if given is not None:
        return Path(given)
    found = sorted([*FOLDER.glob("*.yaml"), *FOLDER.glob("*.yml")])
    owner = _owner() if len(found) > 1 else None
    mine = [path for path in found if owner is not None and _named(path) == owner]
    if len(mine) == 1:
        return mine[0]
    if DEFAULT.is_file():
        return DEFAULT
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError.of("no-manifest", "there is no manifest in manifests/", "name one, or: albor-pipeline init")
    raise UsageError.of("which-manifest", f"there are {len(found)} manifests: {', '.join(map(str, found))}", "name the one to use")


def _owner() -> str | None:
    """The pipeline that the state in this folder belongs to."""
    found = PIPELINE.search(_text(Path("state/albor.lock.yaml")))
    return json.loads(found[1]) if found else None


def _named(path: Path) -> str:
    """The name that a manifest gives itself, as far as that can be told without reading it as one."""
    found = NAME.search(_text(path))
    return found[1] if found else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def state_dir(args: argparse.Namespace, manifest: Manifest) -> Path:
    """The state folder; an environment has its own inside it."""
    if args.state_dir:
        return Path(args.state_dir)
    folder = Path(manifest.root) / "state"
    return folder / "environments" / manifest.environment if manifest.environment else folder


def keys_of(name: str, manifest: Manifest) -> frozenset[Key]:
    """The keys that RESOURCE or RESOURCE@MACHINE means; raises ManifestError with the closest name."""
    resource, _, machine = name.partition("@")
    known = manifest.resources.get(resource)
    if known is None or (machine and machine not in known.machines):
        import difflib

        close = difflib.get_close_matches(resource, manifest.resources, n=1)
        hint = [f"did you mean `{close[0]}`?"] if close and close[0] != resource else []
        where = f" on `{machine}`" if known is not None else ""
        raise ManifestError.of("unknown-resource", f"there is no resource `{resource}`{where} in {manifest.path}", *hint)
    return frozenset(key for key in known.copies() if machine in ("", key.machine))


def selected(args: argparse.Namespace, manifest: Manifest) -> frozenset[Key] | None:
    """The keys chosen by --target, --machine, --tag and --group together, or None when none of them was given.

    `provision` chooses among what is no task, and so always some.
    """
    provision = args.verb == "provision"
    if not (provision or args.target or args.machine or args.tag or args.group):
        return None
    unknown = sorted(set(args.machine) - set(manifest.machines))
    if unknown:
        raise ManifestError.of("unknown-machine", f"there is no machine `{unknown[0]}` in {manifest.path}")
    chosen = frozenset(key for resource in manifest.resources.values() for key in resource.copies())
    if args.target:
        chosen = frozenset(key for name in args.target for key in keys_of(name, manifest))
    if args.machine:
        chosen = frozenset(key for key in chosen if key.machine in args.machine)
    if args.tag:
        chosen = frozenset(key for key in chosen if set(manifest.resources[key.resource].tags) & set(args.tag))
    if args.group:
        chosen = frozenset(key for key in chosen if manifest.resources[key.resource].group in args.group)
    if provision:
        chosen = frozenset(key for key in chosen if manifest.resources[key.resource].kind != "task")
    return chosen


def plan_of(args: argparse.Namespace, session: Session, wish: Wish) -> Plan:
    """The plan; for `provision` with what the machines say against it. Raises ManifestError, UsageError."""
    if wish.prune and wish.targets is not None:
        text = "--prune is for the whole manifest: it goes with no --target, --machine, --tag or --group, and not with `provision`"
        raise UsageError.of("usage", text)
    plan = session.plan(wish)
    if args.verb != "provision":
        return plan
    tasks = [step for step in plan.steps if step.kind == "task" and step.changes]
    if tasks:
        names = ", ".join(str(step.key) for step in tasks)
        text = f"what is to be provisioned needs {names} first, which `provision` does not run"
        raise ManifestError.of("needs-task", text, "apply it first")
    from albor_pipeline.run.forecast import forecast

    told, problems = forecast(session, plan)
    err(told)
    if problems:
        raise ManifestError(problems)
    return plan


def tell_unmasked(missing: Iterable[Diagnostic]) -> None:
    """Say in one line which secrets cannot be read now, so that nothing masks them in what a task wrote."""
    if reasons := "; ".join(dict.fromkeys(item.message for item in missing)):
        err([f"warning: secrets may stand below, since they cannot be masked: {reasons}"])


def out(lines: Iterable[str]) -> None:
    """Lines to stdout."""
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def out_now(text: str) -> None:
    """Text to stdout, and on to whoever reads a pipe: what is followed is seen as it comes."""
    sys.stdout.write(text)
    sys.stdout.flush()


def err(lines: Iterable[str]) -> None:
    """Lines to stderr."""
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.flush()
