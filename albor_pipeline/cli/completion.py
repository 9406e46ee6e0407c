"""`completion`: a script for a shell, which asks `completion candidates WORD...` at every key. Writes nothing, never fails aloud.

So verbs, options and names come from the parsers and the manifest as they are then, in one place for all shells.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from albor_pipeline.cli import VERBS, common, module_of
from albor_pipeline.errors import EXIT_OK, AlborError
from albor_pipeline.model.manifest import Manifest

SCRIPTS = {
    "bash": """\
_albor_pipeline() {
    local IFS=$'\\n'
    COMPREPLY=($("${COMP_WORDS[0]}" completion candidates "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _albor_pipeline albor-pipeline
""",
    "zsh": """\
#compdef albor-pipeline
_albor_pipeline() {
    local -a found
    found=(${(f)"$("${words[1]}" completion candidates "${(@)words[2,CURRENT]}" 2>/dev/null)"})
    if (( $#found )); then compadd -a found; else _files; fi
}
compdef _albor_pipeline albor-pipeline
""",
    "fish": """\
function __albor_pipeline
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    command $words[1] completion candidates $words[2..-1] "$current" 2>/dev/null
end
complete -c albor-pipeline -a '(__albor_pipeline)'
""",
}
NAMED: dict[str, Callable[[Manifest], Iterable[str]]] = {
    "task": lambda manifest: manifest.resources,
    "resource": lambda manifest: manifest.resources,
    "target": lambda manifest: manifest.resources,
    "replace": lambda manifest: manifest.resources,
    "machine": lambda manifest: manifest.machines,
    "group": lambda manifest: {resource.group for resource in manifest.resources.values() if resource.group},
    "tag": lambda manifest: {tag for resource in manifest.resources.values() for tag in resource.tags},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """SHELL; `candidates` is what the scripts ask."""
    parser.add_argument("shell", choices=(*SCRIPTS, "candidates"), help='such as: eval "$(albor-pipeline completion bash)"')
    parser.add_argument("words", nargs=argparse.REMAINDER, help="for candidates: the words typed so far, the last one unfinished")


def run(args: argparse.Namespace) -> int:
    """Print the script, or what may stand in place of the last word; nothing where a file is meant."""
    if args.shell != "candidates":
        common.out(SCRIPTS[args.shell].splitlines())
        return EXIT_OK
    *before, current = args.words or [""]
    common.out(sorted({word for word in candidates(before, current) if word.startswith(current)}))
    return EXIT_OK


def candidates(before: Sequence[str], current: str) -> Iterable[str]:
    """Every word that may follow those before it; empty where any file may."""
    verb = next((word for word in before if not word.startswith("-")), None)
    if verb is None:
        return ["--help", "--version"] if current.startswith("-") else VERBS
    if verb not in VERBS:
        return []
    parser = argparse.ArgumentParser(prog=verb)
    module_of(verb).add_arguments(parser)
    typed = before[before.index(verb) + 1 :]
    options = {name: action for action in parser._actions for name in action.option_strings}
    last = options.get(typed[-1]) if typed else None
    if last is not None and last.nargs != 0:
        return _values(last, typed, parser, current)
    if current.startswith("-"):
        return options
    action = _positional(parser, options, typed)
    return [] if action is None else _values(action, typed, parser, current)


def _positional(parser: argparse.ArgumentParser, options: dict[str, argparse.Action], typed: Sequence[str]) -> argparse.Action | None:
    """The positional argument that the next word is for."""
    positionals = [action for action in parser._actions if not action.option_strings]
    taken, skip = 0, False
    for word in typed:
        action = options.get(word)
        if not skip and action is None:
            taken += 1
        skip = action is not None and action.nargs != 0
    if taken < len(positionals):
        return positionals[taken]
    return positionals[-1] if positionals and positionals[-1].nargs in ("*", "+") else None


def _values(action: argparse.Action, typed: Sequence[str], parser: argparse.ArgumentParser, current: str) -> Iterable[str]:
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    if action.dest == "what":
        return _explained(current)
    if action.dest not in NAMED:
        return []
    try:
        from albor_pipeline.manifest.load import load

        return NAMED[action.dest](load(common.find_manifest(_manifest(typed, parser))))
    except AlborError:
        return []


def _manifest(typed: Sequence[str], parser: argparse.ArgumentParser) -> str | None:
    """The manifest that the line names: an option's value, or the first file where the verb takes one."""
    for option, value in pairwise(typed):
        if option in ("-m", "--manifest"):
            return value
    takes = any(action.dest == "manifest" and not action.option_strings for action in parser._actions)
    return next((word for word in typed if word.endswith((".yaml", ".yml"))), None) if takes else None


def _explained(current: str) -> Iterable[str]:
    from albor_pipeline.manifest.describe import blocks

    known = blocks()
    if "." not in current:
        return [block.name for block in known]
    fields = ((block.name, field) for block in known for field in (*block.fields, *block.common))
    return [f"{name}.{path}" for name, field in fields for path, _ in field.walk()]
