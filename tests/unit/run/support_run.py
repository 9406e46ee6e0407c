"""A project folder for tests of the run room: a manifest, the real command in this process, and what it left behind. Tests nothing."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from albor_pipeline.cli import main

LIMIT_S = 30.0
STAGES = """\
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    open("questions.log", "a").write(line)
    print(json.dumps({"id": asked["id"], **json.load(open("answer.json"))}))
open("asked.log", "a").write("asked\\n")
"""


@dataclass(frozen=True)
class Said:
    """What a command wrote and its exit code."""

    code: int
    out: str
    err: str

    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.out)
        return document


class Project:
    """One folder with one manifest."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def manifest(self, *resources: str, top: str = "") -> None:
        (self.root / "p.yaml").write_text(f'version: "1.0"\nname: p\n{top}resources:\n' + "".join(resources))

    def file(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def stages(self, answer: dict[str, Any], *names: str) -> None:
        """A project with stages whose plans are all `answer`."""
        self.file("stages/lib/cli.py", STAGES)
        self.file("answer.json", json.dumps(answer))
        for name in names:
            self.file(f"stages/{name}.py", "x = 1\n")

    def run(self, verb: str, *argv: str) -> Said:
        """One verb in this process."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(self.root), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([verb, *argv, *self._tail(verb)])
        return Said(code, out.getvalue(), err.getvalue())

    def _tail(self, verb: str) -> list[str]:
        return ["-m", "p.yaml"] if verb in ("why", "logs", "attach", "cancel", "accept") else ["p.yaml"]

    def start(self, *argv: str, **more: Any) -> subprocess.Popen[str]:
        """The command in a process of its own."""
        command = [sys.executable, "-m", "albor_pipeline", *argv, "p.yaml"]
        given: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True, **more}
        return subprocess.Popen(command, cwd=self.root, **given)

    def kill(self, process: subprocess.Popen[str]) -> None:
        """kill -9 of the controller's process group."""
        os.killpg(process.pid, 9)
        process.communicate()

    def starts(self, name: str = "starts.log") -> list[str]:
        path = self.root / name
        return path.read_text().split() if path.exists() else []

    def actions(self, *argv: str) -> dict[str, tuple[str, str]]:
        """What the plan would do: resource -> action and reason."""
        steps = self.run("plan", "--json", *argv).json()["steps"]
        return {step["resource_id"]: (step["action"], step["reason"]["text"]) for step in steps}

    def row(self, name: str) -> dict[str, Any]:
        rows = self.run("status", "--json").json()["resources"]
        found: dict[str, Any] = next(row for row in rows if row["resource_id"] == name)
        return found

    def wait(self, until: Callable[[], Any]) -> None:
        limit = time.monotonic() + LIMIT_S
        while not until():
            assert time.monotonic() < limit, "it did not happen in time"
            time.sleep(0.02)

    def quiet(self) -> None:
        """Wait until no attempt is alive."""
        self.wait(lambda: self.run("ps", "--json").json()["attempts"] == [])


def task(name: str, command: str, *lines: str) -> str:
    """A task that tells of its start outside its outputs."""
    body = "".join(f"    {line}\n" for line in lines)
    return f"  {name}:\n    type: task\n    command: |-\n      echo {name} >> starts.log; {command}\n{body}"
