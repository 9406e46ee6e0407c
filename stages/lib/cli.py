"""The command `albor-stage`: arguments in, text and exit code out; knows stages only by the names in its registry."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

if TYPE_CHECKING:
    from stages.lib.devices import Target
    from stages.lib.problems import BadConfig
    from stages.lib.stage import DeviceStage, Plan, Stage

STAGES = {
    "ingest": "stages.ingest",
    "split": "stages.split",
    "tokenize": "stages.tokenize",
    "pack": "stages.pack",
    "pretrain": "stages.pretrain",
    "evaluate": "stages.evaluate",
    "export": "stages.export",
    "complete": "stages.complete",
}
ABOUT = {
    "ingest": "Python source files to a Parquet table",
    "split": "training and validation text, disjoint by content",
    "tokenize": "a ByteLevel BPE tokenizer from the training text",
    "pack": "token rows of one length, an end-of-text token after every document",
    "pretrain": "train a small LLaMA from nothing",
    "evaluate": "validation loss, bits per byte, honest rivals",
    "export": "a Hugging Face folder with the same logits",
    "complete": "continue some Python",
}
VERBS = ("plan", "apply", "validate")
PLANS_FOR_A_DEVICE = ("pretrain",)
OK, PROBLEM, USAGE, BUG, INTERRUPTED = 0, 1, 64, 70, 130
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false", "DO_NOT_TRACK": "1"}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"error[usage]: {message}\nTo see what there is: {self.prog} --help\n")


def entry() -> NoReturn:
    """The console command: runs `main` and exits with its code."""
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = PROBLEM
    except Exception:
        import traceback

        traceback.print_exc()
        print("error[bug]: this is a fault of albor-stage itself", file=sys.stderr)
        code = BUG
    sys.exit(code)


def main(argv: Sequence[str]) -> int:
    """Do what `argv` says and return the exit code: 0 fine, 1 a problem, 64 wrong usage, 70 our bug."""
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview(), end="", file=sys.stdout if argv else sys.stderr)
        return OK if argv else USAGE
    if argv[0] == "plan":
        return _batch(argv[1:])
    if argv[0] not in STAGES:
        return _usage(f"there is no stage `{argv[0]}`", argv[0], [*STAGES, "plan"])
    return _one(argv[0], argv[1:])


def _overview() -> str:
    names = [f"  {name:<10} {ABOUT[name]}" for name in STAGES]
    return "\n".join([
        "usage: albor-stage NAME plan|apply|validate CONFIG [--set a.b=v] [--json] [--out RUNFOLDER]",
        "       albor-stage pretrain plan CONFIG --device rtx4090 | --vram 24GB [--rate TOKENS_PER_S] [--price AN_HOUR]",
        "       albor-stage plan --batch      one JSON question a line on stdin, one answer a line",
        "", *names, "",
        "plan says what apply would do and what is wrong, and changes nothing; validate looks at the configuration only.",
        "", ""])


def _usage(text: str, given: str, known: Sequence[str]) -> int:
    close = get_close_matches(given, known, n=1)
    hint = f"did you mean `{close[0]}`?" if close else f"there are: {', '.join(known)}"
    print(f"error[usage]: {text}; {hint}", file=sys.stderr)
    return USAGE


def _one(name: str, rest: Sequence[str]) -> int:
    if rest and not rest[0].startswith("-") and rest[0] not in VERBS:
        return _usage(f"stage `{name}` has no verb `{rest[0]}`", rest[0], VERBS)
    parser = _Parser(prog=f"albor-stage {name}", description=f"{ABOUT[name]}.", allow_abbrev=False)
    parser.add_argument("verb", choices=VERBS)
    parser.add_argument("config", metavar="CONFIG", type=Path, help="a YAML or JSON file")
    parser.add_argument("--set", action="append", default=[], metavar="a.b=v", help="replace one value")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--out", type=Path, metavar="RUNFOLDER", help="where apply keeps its result and progress")
    if name in PLANS_FOR_A_DEVICE:
        parser.add_argument("--device", metavar="NAME", help="plan for this device, as rtx4090, instead of what is here")
        parser.add_argument("--vram", metavar="24GB", help="plan for a card with this memory")
        parser.add_argument("--rate", type=float, metavar="TOKENS_PER_S", help="a measured rate, for the time")
        parser.add_argument("--price", type=float, metavar="AN_HOUR", help="what an hour costs, for the cost")
    try:
        asked = parser.parse_intermixed_args(list(rest))
        target = _target(asked) if name in PLANS_FOR_A_DEVICE else None
    except SystemExit as stop:
        return int(stop.code or 0)
    except ValueError as fault:
        print(f"error[usage]: {fault}", file=sys.stderr)
        return USAGE
    if target is not None and asked.verb != "plan":
        return _usage(f"--device, --vram, --rate and --price go with plan; {asked.verb} is done here", "--device", VERBS)
    if asked.out is not None and asked.verb != "apply":
        return _usage(f"--out goes with apply; {asked.verb} writes nothing", "--out", VERBS)
    try:
        return _verb(name, asked, target)
    except BrokenPipeError:
        raise
    except OSError as fault:
        print(f"error[io]: {name}: {_told(fault)}", file=sys.stderr)
        return PROBLEM


def _target(asked: argparse.Namespace) -> Target | None:
    """What --device, --vram, --rate and --price say together; None without them. ValueError for a value that means nothing."""
    if (asked.device, asked.vram, asked.rate, asked.price) == (None, None, None, None):
        return None
    from stages.lib.devices import Target, memory_of, named

    for option, value in (("--rate", asked.rate), ("--price", asked.price)):
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"{option} {value:g} is not a number above 0")
    if asked.device is not None:
        named(asked.device)
    memory = memory_of(asked.vram) if asked.vram is not None else None
    return Target(device=asked.device, vram_bytes=memory, tokens_per_s=asked.rate, price_per_hour=asked.price)


def _verb(name: str, asked: argparse.Namespace, target: Target | None) -> int:
    if asked.verb == "apply":
        os.environ.update(OFFLINE)
    from stages.lib.load import load_file
    from stages.lib.problems import BadConfig

    stage = _stage(name)
    try:
        config = load_file(stage.Config, name, asked.config, asked.set)
    except BadConfig as bad:
        return _show_bad(bad, asked)
    if asked.verb == "validate":
        print(json.dumps({"version": 1, "ok": True, "errors": []}) if asked.json else f"{asked.config} is valid.")
        return OK
    if asked.verb == "apply" and name in PLANS_FOR_A_DEVICE:
        from stages.lib.devices import Target

        target = Target()  # what is here, and not a machine that another one plans for
    plan = stage.plan(config) if target is None else cast("DeviceStage", stage).plan(config, target)
    if asked.verb == "plan":
        _show_plan(plan, asked, sys.stdout)
        return OK if plan.ok else PROBLEM
    return _apply(stage, config, plan, asked)


def _apply(stage: Stage, config: Any, plan: Plan, asked: argparse.Namespace) -> int:
    from stages.lib.checks import unwritable
    from stages.lib.files import canonical_json, write_atomic
    from stages.lib.stage import Check, Run, StageError

    against = [check for level in ("error", "when-ready") for check in plan.checks if check.level == level]
    against += [Check("output", "error", told) for path in plan.writes if (told := unwritable(path))]
    if against:
        for check in against:
            print(f"error[{check.name}]: {check.text}", file=sys.stderr)
        print(f"{plan.stage} was not started, nothing was written.", file=sys.stderr)
        return PROBLEM
    _refuse_connections()
    run = Run.of(plan.stage, asked.out, os.environ)
    try:
        report = stage.apply(config, run)
    except StageError as fault:
        print(f"error[{plan.stage}]: {fault}", file=sys.stderr)
        return PROBLEM
    finally:
        run.close()
    result = report.to_json(plan.stage)
    write_atomic(run.attempt / "result.json", canonical_json(result))
    if asked.json:
        print(json.dumps(result, sort_keys=True))
    else:
        print("\n".join(report.headline))
    return OK


def _told(fault: OSError) -> str:
    return f"{fault.strerror or fault}" + (f": {fault.filename}" if fault.filename else "")


def _refuse_connections() -> None:
    """From here on this process opens no connection to another machine: an attempt is an error that names the address."""
    from stages.lib.stage import StageError

    def guard(event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.getaddrinfo" and args[0] not in (None, "localhost", "127.0.0.1", "::1"):
            raise StageError(f"a library wanted to look up {args[0]!r}; a stage opens no connection")
        if event in ("socket.connect", "socket.sendto") and isinstance(args[1], tuple):
            host = str(args[1][0])
            if host not in ("localhost", "::1") and not host.startswith("127."):
                raise StageError(f"a library wanted to connect to {args[1]!r}; a stage opens no connection")

    sys.addaudithook(guard)


def _show_bad(bad: BadConfig, asked: argparse.Namespace) -> int:
    if asked.json:
        answer = {"version": 1, "ok": False, "errors": [p.to_json() for p in bad.problems]}
        print(json.dumps(answer, ensure_ascii=False))
    else:
        print(bad.text(f"Nothing was {'started' if asked.verb == 'apply' else 'planned'}."), end="", file=sys.stderr)
    return PROBLEM


def _show_plan(plan: Plan, asked: argparse.Namespace, out: Any) -> None:
    if asked.json:
        print(json.dumps(plan.to_json(), ensure_ascii=False), file=out)
        return
    from shlex import quote

    from stages.lib.plan_text import plan_text

    sets = "".join(f" --set {quote(text)}" for text in asked.set)
    print(plan_text(plan, f"albor-stage {plan.stage} apply {quote(str(asked.config))}{sets}"), end="", file=out)


def _batch(rest: Sequence[str]) -> int:
    parser = _Parser(prog="albor-stage plan", description="Answer many plan questions in one process.", allow_abbrev=False)
    parser.add_argument("--batch", action="store_true", required=True, help="read JSON lines on stdin")
    try:
        parser.parse_args(list(rest))
    except SystemExit as stop:
        return int(stop.code or 0)
    for line in sys.stdin:
        if line.strip():
            print(json.dumps(_answer(line), ensure_ascii=False), flush=True)
    return OK


def _answer(line: str) -> dict[str, Any]:
    """The answer to one question; a wrong question is answered too, so that answers match questions one to one."""
    from stages.lib.problems import BadConfig, Problem

    try:
        question = json.loads(line)
    except json.JSONDecodeError as fault:
        question = {"stage": None, "fault": f"the question is not JSON: {fault}"}
    if not isinstance(question, dict):
        question = {"stage": None, "fault": "the question is not an object"}
    answer: dict[str, Any] = {"id": question.get("id"), "ok": False, "plan": None, "errors": []}
    try:
        plan = _planned(question)
    except BadConfig as bad:
        answer["errors"] = [p.to_json() for p in bad.problems]
    except OSError as fault:
        where = str(question.get("config_file") or "config")
        answer["errors"] = [Problem("io", f"{question.get('stage')}: {_told(fault)}", where).to_json()]
    except Exception as bug:
        import traceback

        traceback.print_exc()
        text = f"the plan of `{question.get('stage')}` broke: {type(bug).__name__}: {bug}"
        answer["errors"] = [Problem("bug", text, str(question.get("config_file") or "config")).to_json()]
    else:
        answer |= {"ok": plan.ok, "plan": plan.to_json()}
    return answer


def _planned(question: dict[str, Any]) -> Plan:
    from dataclasses import replace

    from stages.lib.load import load_file, load_mapping
    from stages.lib.problems import BadConfig, Problem, did_you_mean

    name, sets = question.get("stage"), question.get("set") or []
    if not isinstance(name, str) or name not in STAGES:
        text = question.get("fault") or f"there is no stage `{name}`"
        raise BadConfig([Problem("unknown-stage", text, "stdin", hint=did_you_mean(str(name), list(STAGES)))], {})
    stage = _stage(name)
    config, file = question.get("config"), question.get("config_file")
    if isinstance(sets, list) and isinstance(file, str) and config is None:
        loaded = load_file(stage.Config, name, Path(file), sets)
    elif isinstance(sets, list) and isinstance(config, dict) and file is None:
        loaded = load_mapping(stage.Config, name, config, sets)
    else:
        raise BadConfig([Problem("bad-question", "give one of `config` (an object) and `config_file`", "stdin")], {})
    if name in PLANS_FOR_A_DEVICE and isinstance(gpu := question.get("gpu"), str):
        from stages.lib.devices import Target

        found = cast("DeviceStage", stage).plan(loaded, Target(gpu=gpu))
    else:
        found = stage.plan(loaded)
    # Who asks for many plans compares `disk_bytes` with the disk of the machine that each is for: the one here may be another.
    return replace(found, checks=tuple(check for check in found.checks if check.name != "disk"))


def _stage(name: str) -> Stage:
    return cast("Stage", import_module(STAGES[name]))


if __name__ == "__main__":
    entry()
