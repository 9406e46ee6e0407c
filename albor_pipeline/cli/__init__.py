"""The command `albor-pipeline`: the only place that parses arguments, prints and exits. A verb is a file, imported when asked for."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from keyword import iskeyword
from typing import Any, NoReturn

from albor_pipeline.errors import EXIT_BUG, EXIT_INTERRUPTED, AlborError, UsageError

VERBS = {
    "init": "write a small manifest to start from",
    "validate": "check a manifest; touches no machine",
    "plan": "show what would happen, and why; changes nothing",
    "apply": "do it; the same command continues after any outage",
    "status": "what is converged, running, failed",
    "why": "why one resource runs or does not",
    "drift": "what changed behind our back",
    "provision": "plan or apply for what is no task: packages, files, users, mounts, drivers, environments, downloads",
    "destroy": "take away what was made, and forget it; task outputs stay",
    "import": "record a thing that is there already as it is; changes nothing",
    "graph": "what depends on what",
    "template": "one resource with everything resolved, as YAML",
    "fmt": "order and indent a manifest; comments stay",
    "explain": "what a type or a field means, and what it takes",
    "schema": "the JSON Schema of a manifest or a recipe, for editors; or the page in Markdown",
    "completion": "a script that lets bash, zsh or fish complete this command",
    "logs": "the log of a task's last attempt",
    "ps": "what is running",
    "attach": "follow a running task",
    "cancel": "end a running task",
    "ssh": "a shell, or one command, on a machine, in the folder of its tasks",
    "doctor": "whether every machine is fit: reachable, clock, disk, slots, GPUs, driver and torch",
    "accept": "take the outputs of a task as they are for its present declaration",
    "history": "what happened, from the journal",
    "audit": "whether the journal is whole and unchanged",
    "store": "what is kept of earlier results: list it, check it, clean it",
    "install-service": "let systemd apply the manifest again after every boot",
    "state": "rebuild a lost state folder from the machines, or import what forjar recorded",
}
GC_THRESHOLDS = (100_000, 20, 100)
OUTCOMES = {
    "plan": "Nothing was planned.", "apply": "Nothing was done.", "destroy": "Nothing was done.",
    "validate": "Nothing else was looked at.",
}  # fmt: skip


def entry() -> NoReturn:
    """The console command: run main() and end the process with its code; taking the interpreter apart would cost 50 ms."""
    gc.set_threshold(*GC_THRESHOLDS)
    code = main(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    with suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


def main(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code; faults of the user are shown without a traceback."""
    args = argparse.Namespace()
    try:
        parser = _parser(argv)
        args = parser.parse_args(argv)
        if args.verb is None:
            parser.print_help()
            return UsageError.exit_code
        args.command_line = list(argv)
        code: int = module_of(args.verb).run(args)
        return code
    except AlborError as error:
        return _show(error, argv, args)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return AlborError.exit_code
    except Exception:
        return _bug()


def module_of(verb: str) -> Any:
    """The module of a verb, with add_arguments() and run()."""
    name = verb.replace("-", "_")
    return import_module(f"albor_pipeline.cli.{name}_" if iskeyword(name) else f"albor_pipeline.cli.{name}")


class _Help(argparse.HelpFormatter):
    """Leaves room for the indent of the verbs, which argparse does not count."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog)
        self._action_max_length = max(map(len, VERBS)) + 4


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError.of("usage", message, f"to see what there is: {self.prog} --help")


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; only the verb that is asked for adds its arguments, so that `--help` imports no room."""
    about = "One manifest for machines and a model ladder."
    parser = _Parser(prog="albor-pipeline", description=about, formatter_class=_Help)
    parser.add_argument("--version", action="store_true", help="show the version and end")
    wanted = next((word for word in argv if not word.startswith("-")), None)
    if wanted is not None and wanted not in VERBS:
        raise _unknown(wanted)
    if "--version" in (argv if wanted is None else argv[: argv.index(wanted)]):
        from albor_pipeline import __version__

        print(f"albor-pipeline {__version__}")
        raise SystemExit(0)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB")
    for verb, does in VERBS.items():
        sub = verbs.add_parser(verb, help=does, description=does)
        if verb == wanted:
            module_of(verb).add_arguments(sub)
    return parser


def _unknown(verb: str) -> AlborError:
    from albor_pipeline.manifest.names import closest

    near = closest(verb, VERBS)
    hint = [f"did you mean `{near}`?"] if near else []
    return UsageError.of("usage", f"there is no verb `{verb}`", *hint, "to see what there is: albor-pipeline --help")


def _show(error: AlborError, argv: Sequence[str], args: argparse.Namespace) -> int:
    from albor_pipeline.ui import diagnostics
    from albor_pipeline.ui.hints import Hints

    hints = Hints.of(args)
    error.diagnostics = tuple(replace(item, notes=tuple(map(hints.completed, item.notes))) for item in error.diagnostics)
    if "--json" in argv:
        from albor_pipeline.ui import documents

        print(documents.text(documents.of_error(error)))
    else:
        colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
        sys.stderr.write(diagnostics.render_all(error.diagnostics, colour=colour))
        outcome = OUTCOMES.get(next(iter(argv), ""))
        if outcome is not None and any(item.span for item in error.diagnostics):
            sys.stderr.write(f"\n{diagnostics.summary(error.diagnostics, outcome)}\n")
    return error.exit_code


def _bug() -> int:
    import traceback

    traceback.print_exc()
    sys.stderr.write("\nerror[bug]: this is our fault, not yours; state is saved at every step. Please report the lines above.\n")
    return EXIT_BUG
