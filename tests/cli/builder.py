"""A project folder in which verbs run as a user would run them: a test gives whole stdout, stderr, status and files.

What is not given must be empty. Times, digests of records, process ids and the folder's own path are replaced by words
of the same kind, so that everything else is compared to the letter.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sshd import Box

from albor_pipeline.cli import main

LIMIT_S = 30.0
HEAD = """
machines:
  lambda: {addr: lambda}
  intel: {addr: intel}
"""
CHAIN = """
words:
  type: task
  command: sort in.txt > words.txt
  inputs: [in.txt]
  outputs: [words.txt]
count:
  type: task
  command: wc -l < words.txt > count.txt
  inputs: [words]
  outputs: [count.txt]
"""
SLOW = """
slow:
  type: task
  command: echo begin; touch begun; sleep 60; touch never
  inputs: [in.txt]
"""
NORMAL = (
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?(\.\d+)?Z?", "DAY TIME"),
    (r"\b\d\d-\d\d \d\d:\d\d\b", "DAY TIME"),
    (r"\b\d\d:\d\d:\d\d\b", "HH:MM:SS"),
    (r"\b\d+\.\d s\b", "0.0 s"),
    (r"head [0-9a-f]{16}", "head HEX"),
    (r"pid \d+ on [\w.-]+", "pid 1 on HOST"),
)


@dataclass(frozen=True)
class Said:
    """What one command wrote, normalised, and its exit code."""

    out: str
    err: str
    exit: int


def there(box: Box, path: str = ".") -> Path:
    """A path of the pipeline's folder on a machine."""
    return box.home / "albor" / "tale" / path


def put(box: Box, path: str, text: str) -> None:
    """A file that its user made on the machine."""
    there(box, path).parent.mkdir(parents=True, exist_ok=True)
    there(box, path).write_text(text)


class _Terminal(io.StringIO):
    """Standard input that is a terminal with someone at it."""

    def isatty(self) -> bool:
        return True


class Project:
    """`says` runs a verb and compares everything it wrote; each call returns the project, so that a test reads as a tale."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._running: list[subprocess.Popen[str]] = []

    def file(self, path: str, text: str) -> Self:
        """Write a file of the user's."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(textwrap.dedent(text).lstrip("\n"))
        return self

    def manifest(self, resources: str, head: str = "") -> Self:
        """Write manifests/albor.yaml: version and name `tale`, then `head`, then these resources."""
        body = textwrap.indent(textwrap.dedent(resources).strip("\n"), "  ")
        return self.file("manifests/albor.yaml", f'version: "1.0"\nname: tale\n{textwrap.dedent(head)}resources:\n{body}\n')

    def chain(self) -> Self:
        """A manifest of two tasks, the second of which reads what the first makes."""
        return self.file("in.txt", "two\none\n").manifest(CHAIN)

    def slow(self) -> Self:
        """A manifest with one task that takes a minute unless it is ended."""
        return self.file("in.txt", "two\none\n").manifest(SLOW)

    def edit(self, old: str, new: str, path: str = "manifests/albor.yaml") -> Self:
        """Replace one text in a file, by default the manifest."""
        text = (self.root / path).read_text()
        assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {path}"
        (self.root / path).write_text(text.replace(old, new))
        return self

    def run(self, *argv: str, answer: str | None = None) -> Said:
        """Run a verb in this process; `answer` is typed at a terminal, without it there is none."""
        out, err = io.StringIO(), io.StringIO()
        stdin = sys.stdin
        sys.stdin = io.StringIO() if answer is None else _Terminal(f"{answer}\n")
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(argv)
        finally:
            sys.stdin = stdin
        return Said(self._normal(out.getvalue()), self._normal(err.getvalue()), code)

    def says(self, *argv: str, out: str = "", err: str = "", exit: int = 0, answer: str | None = None) -> Self:
        """Run a verb; all that it writes, and its exit code, must be this."""
        said = self.run(*argv, answer=answer)
        wanted = Said(_block(out), _block(err), exit)
        assert (said.out, said.err, said.exit) == (wanted.out, wanted.err, wanted.exit)
        return self

    def does(self, *argv: str) -> Self:
        """Run a verb that this test is not about; it must end well."""
        said = self.run(*argv)
        assert said.exit == 0, said
        return self

    def json(self, *argv: str, exit: int = 0) -> dict[str, Any]:
        """The document that a verb prints with --json; nothing else may be on stdout or stderr of a reading verb."""
        said = self.run(*argv, "--json")
        assert said.exit == exit, said
        document = json.loads(said.out)
        assert document["version"] == 1
        return dict(document)

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Run a verb beside the test, in a process and session of its own; it writes into pipes as it does in a user's shell."""
        command = [sys.executable, "-m", "albor_pipeline", *argv]
        env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd=self.root, env=env, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
        self._running.append(process)
        return process

    def end(self, process: subprocess.Popen[str]) -> Said:
        """Wait for a started verb."""
        out, err = process.communicate(timeout=LIMIT_S)
        return Said(self._normal(out), self._normal(err), process.returncode)

    def killed(self, begun: str, *argv: str) -> Self:
        """Start a verb and kill it once a file is there; what it started goes on."""
        process = self.start(*argv)
        self.wait_for(begun)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return self

    def wait(self, what: Callable[[], object]) -> Self:
        """Until something holds; fails after a while."""
        limit = time.monotonic() + LIMIT_S
        while not what():
            assert time.monotonic() < limit, "it did not happen"
            time.sleep(0.02)
        return self

    def wait_for(self, path: str) -> Self:
        """Until a file is there."""
        return self.wait((self.root / path).exists)

    def holds(self, path: str, text: str | None) -> Self:
        """The file has exactly this text; None: there is no such file."""
        target = self.root / path
        assert (target.read_text() if target.exists() else None) == text
        return self

    def close(self) -> None:
        """End what the test left running."""
        for process in self._running:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def _normal(self, text: str) -> str:
        text = text.replace(str(self.root.resolve()), "ROOT").replace(str(self.root), "ROOT")
        for pattern, word in NORMAL:
            text = re.sub(pattern, word, text)
        return text


def _block(text: str) -> str:
    """A block of a test file as text: its lines stand four columns right of the closing quotes; a one-line text is itself."""
    if not text.startswith("\n"):
        return f"{text}\n" if text else ""
    *lines, last = text[1:].split("\n")
    assert not last.strip(), "the closing quotes stand on a line of their own"
    return "".join(f"{line[len(last) + 4:]}\n" for line in lines)
