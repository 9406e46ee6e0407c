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
from albor_pipeline.errors import AlborError
from albor_pipeline.model.observed import StageAnswer

CACHE = Path(".albor") / "cache" / "stage-plans.json"
TIMEOUT_S = 120.0


def ask(root: Path, questions: Mapping[str, Mapping[str, Any]]) -> dict[str, StageAnswer]:
    """The answer for each resource id; a question is {"stage", "config", "facts"}, and `facts` only key the cache.

    Raises AlborError when the stage process itself fails.
    """
    keys = {name: digest_bytes(json.dumps(question, sort_keys=True).encode()) for name, question in questions.items()}
    cache = _load(root)
    missing = [name for name in questions if keys[name] not in cache]
    if missing:
        fresh = _run(root, {name: questions[name] for name in missing})
        cache = {key: cache[key] for key in keys.values() if key in cache} | {keys[name]: fresh[name] for name in missing}
        _save(root, cache)
    return {name: _answer(cache[keys[name]]) for name in questions}


def _run(root: Path, questions: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    lines = [json.dumps({"id": name, "stage": q["stage"], "config": q["config"]}) for name, q in questions.items()]
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
    answers = {}
    for line in done.stdout.splitlines():
        answer = json.loads(line)
        answers[answer["id"]] = answer
    if set(answers) != set(questions):
        last = done.stderr.strip().splitlines()[-3:]
        raise AlborError.of("stage-plan", "the stages did not answer for their plans", *last)
    return answers


def _answer(raw: Mapping[str, Any]) -> StageAnswer:
    plan = raw.get("plan") or {}
    checks = plan.get("checks") or ()
    problems = [str(error["text"]) for error in raw.get("errors") or ()]
    problems += [str(check["text"]) for check in checks if check["level"] == "error"]
    return StageAnswer(
        problems=tuple(problems),
        warnings=tuple(str(check["text"]) for check in checks if check["level"] == "warning"),
        reads=tuple(plan.get("reads") or ()),
        writes=tuple(plan.get("writes") or ()),
        estimates=plan.get("estimates") or {},
    )


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
