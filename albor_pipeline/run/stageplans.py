"""Asks all stage tasks for their plans in one process, and keeps the answers by what they depend on. Knows no stage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.errors import AlborError, Diagnostic, Source, Span
from albor_pipeline.model.observed import StageAnswer

CACHE = Path(".albor") / "cache" / "stage-plans.json"
TIMEOUT_S = 120.0


def ask(root: Path, questions: Mapping[str, Mapping[str, Any]]) -> dict[str, StageAnswer]:
    """The answer for each resource id; a question is {"stage", "config", "facts", "gpu"?}, and `facts` only key the cache.

    Raises AlborError when the stage process itself fails.
    """
    keys = {name: digest_bytes(json.dumps(question, sort_keys=True).encode()) for name, question in questions.items()}
    cache = _load(root)
    known = {name: cache[keys[name]] for name in questions if keys[name] in cache}
    missing = {name: question for name, question in questions.items() if name not in known}
    if missing:
        known |= _run(root, missing)
        _save(root, {keys[name]: answer for name, answer in known.items() if not _refuses(answer)})
    return {name: _answer(root, known[name]) for name in questions}


def _refuses(raw: Mapping[str, Any]) -> bool:
    """A refusal is not kept: what it complains of may lie outside of what keys the cache, and its line in the file may move."""
    checks = (raw.get("plan") or {}).get("checks") or ()
    return bool(raw.get("errors")) or any(check["level"] == "error" for check in checks)


def _run(root: Path, questions: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    lines = [json.dumps({"id": name, **_question(question)}) for name, question in questions.items()]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "stages.lib.cli", "plan", "--batch"],
            input="\n".join(lines) + "\n",
            capture_output=True,
            text=True,
            cwd=root,
            timeout=TIMEOUT_S,
            env={**os.environ, "PYTHONPATH": str(root)},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise AlborError.of("stage-plan", f"the stages did not answer for their plans within {TIMEOUT_S:.0f} s") from None
    answers = _lines(done.stdout)
    if answers.keys() != questions.keys():
        last = done.stderr.strip().splitlines()[-3:]
        raise AlborError.of("stage-plan", "the stages did not answer for their plans", *last)
    return answers


def _lines(text: str) -> dict[str, Any]:
    """The answers by id; a line that is none (something that a stage printed) counts for nothing."""
    answers = {}
    for line in text.splitlines():
        try:
            answer = json.loads(line)
            answers[str(answer["id"])] = answer
        except (ValueError, TypeError, KeyError):
            continue
    return answers


def _question(question: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration by its file where it is one, so that an error can name the line; with the card that it is planned for."""
    config = "config_file" if "config_file" in question else "config"
    return {name: question[name] for name in ("stage", config, "gpu") if name in question}


def _answer(root: Path, raw: Mapping[str, Any]) -> StageAnswer:
    plan = raw.get("plan") or {}
    checks = plan.get("checks") or ()
    told = {level: [_check(check) for check in checks if check["level"] == level] for level in ("error", "warning")}
    return StageAnswer(
        problems=tuple(_error(root, error) for error in raw.get("errors") or ()),
        refusals=tuple(told["error"]),
        warnings=tuple(told["warning"]),
        reads=tuple(plan.get("reads") or ()),
        writes=tuple(plan.get("writes") or ()),
        estimates=plan.get("estimates") or {},
    )


def _check(raw: Mapping[str, Any]) -> Diagnostic:
    return Diagnostic(raw["level"], str(raw["name"]), str(raw["text"]))


def _error(root: Path, raw: Mapping[str, Any]) -> Diagnostic:
    """A wrong key or value of a configuration, at its place in the file where it has one."""
    notes = tuple(str(raw[name]) for name in ("note",) if raw.get(name))
    path = root / str(raw.get("file"))
    label = str(raw.get("hint") or "")
    if not path.is_file():
        notes = ((label,) if label else ()) + notes
        return Diagnostic("error", str(raw["code"]), str(raw["text"]), notes=notes)
    source = Source(str(raw["file"]), path.read_text(encoding="utf-8", errors="replace"))
    return Diagnostic("error", str(raw["code"]), str(raw["text"]), Span(source, raw["line"], raw["column"]), label, notes)


def _load(root: Path) -> dict[str, Any]:
    try:
        cache = json.loads((root / CACHE).read_text())
    except (OSError, ValueError):
        return {}
    return cache if isinstance(cache, dict) else {}


def _save(root: Path, cache: Mapping[str, Any]) -> None:
    path = root / CACHE
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(cache))
        temporary.replace(path)
    except OSError:
        return
