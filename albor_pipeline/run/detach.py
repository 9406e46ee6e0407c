"""Detach: the same `apply` as a process of its own, which outlives the terminal; what it says goes to a file of the state folder."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from getpass import getuser
from pathlib import Path

from albor_pipeline.agent.logout import logout_kills, scope_words

LOG = "controller.log"
BEGUN_LIMIT_S = 60.0
PAUSE_S = 0.05


@dataclass(frozen=True)
class Detached:
    """A controller that was started: what it said until its run began or it ended; `code` is None while it lives."""

    pid: int
    log: Path
    said: str
    code: int | None


def start(words: Sequence[str], state_dir: Path) -> Detached:
    """Start `albor-pipeline WORDS` out of reach of this terminal and of a logout, and wait until its run has begun. Raises OSError.

    It is no attempt: a supervisor ends with everything below it, and a controller's tasks have to outlive it.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    log = state_dir / LOG
    scope = scope_words(getuser(), os.geteuid() == 0) if logout_kills() else []
    command = [*scope, sys.executable, "-m", "albor_pipeline", *words]
    with log.open("ab") as out:
        begins = out.tell()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    limit = time.monotonic() + BEGUN_LIMIT_S
    while True:
        code = process.poll()
        said = _since(log, begins)
        if code is not None or any(line.startswith("run ") for line in said.splitlines()) or time.monotonic() > limit:
            return Detached(process.pid, log, said, code)
        time.sleep(PAUSE_S)


def _since(log: Path, begins: int) -> str:
    with log.open("rb") as file:
        file.seek(begins)
        return file.read().decode("utf-8", "replace")
