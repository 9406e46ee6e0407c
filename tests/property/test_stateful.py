"""Plan, apply, drift, edits, hand-made changes and kill -9 in any order, against a plain model of what must be there and what must run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from albor_pipeline.cli import main

LIMIT_S = 30.0
READS = {"a": ("in.txt",), "b": ("out/a",), "c": ("out/a", "more.txt"), "d": ("out/b", "out/c"), "e": ("more.txt",)}
LOSSY = "b"
WORDS = st.sampled_from(["x", "y", "z"])
TEXTS = st.sampled_from(["1\n", "2\n", "1\n2\n"])
TASKS = st.sampled_from(sorted(READS))
Made = tuple[object, str]


def command(name: str, word: str) -> str:
    """`b` keeps only the number of lines, so that a change above it often ends there; the others keep all they read."""
    reads = " ".join(READS[name])
    shows = f"cat {reads} | wc -l" if name == LOSSY else f"cat {reads}"
    return f"echo {name} >> starts.log; sleep 0.03; {{ {shows}; echo {word}; }} > out/{name}"


@dataclass
class Model:
    """What a correct engine knows: by task the proven result, the newest attempt that is not recorded yet, and the file that is there."""

    words: dict[str, str]
    files: dict[str, str]
    proven: dict[str, Made] = field(default_factory=dict)
    attempted: dict[str, Made] = field(default_factory=dict)
    starts: Counter[str] = field(default_factory=Counter)

    def wanted(self, name: str) -> Made:
        texts = [self.files.get(path, "") for path in READS[name]]
        shows = f"{sum(text.count(chr(10)) for text in texts)}\n" if name == LOSSY else "".join(texts)
        return (self.words[name], *texts), f"{shows}{self.words[name]}\n"

    def action(self, name: str) -> str:
        """`skip`, `adopt` or `run`, once everything that the task reads is settled."""
        fingerprint, _ = self.wanted(name)
        there = self.files.get(f"out/{name}")
        proven, newest = self.proven.get(name), self.attempted.get(name)
        if proven is not None and proven[0] == fingerprint:
            return "skip" if there == proven[1] else "run"
        return "adopt" if newest == (fingerprint, there) else "run"

    def apply(self) -> None:
        """A whole run, undisturbed or continued."""
        for name in READS:
            self.step(name, self.action(name))

    def step(self, name: str, action: str) -> None:
        if action == "run":
            self.started(name)
        if action != "skip":
            self.proven[name] = self.wanted(name)
            self.attempted.pop(name, None)

    def started(self, name: str) -> None:
        """The task was started, and its attempt goes on to its end whatever happens to us."""
        self.starts[name] += 1
        self.attempted[name] = self.wanted(name)
        self.files[f"out/{name}"] = self.wanted(name)[1]

    def drifted(self) -> set[tuple[str, str]]:
        found = set()
        for name, (_, text) in self.proven.items():
            there = self.files.get(f"out/{name}")
            if there != text:
                found.add((name, "deleted" if there is None else "modified"))
        return found


class Pipeline(RuleBasedStateMachine):
    """The real command in a folder of its own beside the model."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.root = Path(self._folder.name)
        (self.root / "out").mkdir()
        self.model = Model(dict.fromkeys(READS, "x"), {})
        for name in ("in.txt", "more.txt"):
            self.edit_input(name, "1\n")

    def teardown(self) -> None:
        self.quiet()
        self._folder.cleanup()

    def call(self, *argv: str) -> tuple[int, str]:
        self.write_manifest()
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(self.root), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([argv[0], "stateful.yaml", *argv[1:]])
        self.said = err.getvalue()
        return code, out.getvalue()

    def ask(self, *argv: str, codes: tuple[int, ...] = (0,)) -> Mapping[str, Any]:
        code, text = self.call(*argv, "--json")
        assert code in codes, text + self.said
        document: Mapping[str, Any] = json.loads(text)
        return document

    def write_manifest(self) -> None:
        lines = ['version: "1.0"', "name: stateful", "resources:"]
        for name, reads in READS.items():
            inputs = ", ".join(path.removeprefix("out/") for path in reads)
            text = command(name, self.model.words[name])
            lines += [f"  {name}:", "    type: task", f"    command: '{text}'", f"    inputs: [{inputs}]", f"    outputs: [out/{name}]"]
        (self.root / "stateful.yaml").write_text("\n".join(lines) + "\n")

    def quiet(self) -> None:
        """Wait until no attempt is alive; twice, because a start may still be on its way through a dying agent."""
        limit, calm = time.monotonic() + LIMIT_S, 0
        while calm < 2:
            assert time.monotonic() < limit
            calm = calm + 1 if self.ask("ps")["attempts"] == [] else 0
            time.sleep(0.05)

    def started(self) -> Counter[str]:
        log = self.root / "starts.log"
        return Counter(log.read_text().split()) if log.exists() else Counter()

    @initialize()
    def first(self) -> None:
        self.apply()

    @rule(name=TASKS, word=WORDS)
    def edit_command(self, name: str, word: str) -> None:
        self.model.words[name] = word

    @rule(name=st.sampled_from(["in.txt", "more.txt"]), text=TEXTS)
    def edit_input(self, name: str, text: str) -> None:
        self.model.files[name] = text
        (self.root / name).write_text(text)

    @rule(name=TASKS, text=TEXTS)
    def modify_output(self, name: str, text: str) -> None:
        self.model.files[f"out/{name}"] = text
        (self.root / "out" / name).write_text(text)

    @rule(name=TASKS)
    def delete_output(self, name: str) -> None:
        self.model.files.pop(f"out/{name}", None)
        (self.root / "out" / name).unlink(missing_ok=True)

    @rule()
    def apply(self) -> None:
        self.model.apply()
        self.ask("apply", "--yes")
        assert {step["action"] for step in self.ask("plan")["steps"]} == {"skip"}

    @rule(name=TASKS, word=WORDS, starts=st.integers(0, 3))
    def kill_and_go_on(self, name: str, word: str, starts: int) -> None:
        """The same command again at once, with attempts alive or not: as if it had never been killed."""
        self.edit_command(name, word)
        self.kill_apply(starts)
        self.apply()

    @rule(name=TASKS, word=WORDS, starts=st.integers(0, 3))
    def kill_and_leave(self, name: str, word: str, starts: int) -> None:
        """What was started ends by itself; what the journal saw of it is recorded, the rest waits to be adopted."""
        self.edit_command(name, word)
        self.kill_apply(starts)
        self.quiet()
        rows = {row["resource_id"]: row for row in self.ask("status")["resources"]}
        fresh = self.started() - self.model.starts
        left: set[str] = set()
        for name, reads in READS.items():
            if left & {path.removeprefix("out/") for path in reads}:
                left.add(name)
                assert not fresh[name], f"{name} was started before what it reads was made"
                continue
            action = self.model.action(name)
            assert fresh[name] <= (action == "run"), f"{name} was started {fresh[name]} times, the model says {action}"
            if action == "run" and not fresh[name]:
                left.add(name)
                continue
            if action == "run":
                self.model.started(name)
            if action != "skip" and rows[name]["status"] == "converged" and rows[name]["attempt"] == self.model.starts[name]:
                self.model.step(name, "adopt")

    def kill_apply(self, starts: int) -> None:
        """Kill the controller as soon as so many tasks were started, if there are so many to start."""
        self.write_manifest()
        enough = self.started().total() + starts
        argv = [sys.executable, "-m", "albor_pipeline", "apply", "stateful.yaml", "--yes"]
        process = subprocess.Popen(argv, cwd=self.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None and self.started().total() < enough:
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    @rule()
    def drift(self) -> None:
        findings = self.ask("drift", codes=(0, 4))["findings"]
        found = {(item["resource"], "deleted" if item["detail"].endswith("deleted") else "modified") for item in findings}
        assert found == self.model.drifted()

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        outputs = {f"out/{path.name}": path.read_text() for path in (self.root / "out").iterdir()}
        assert outputs == {path: text for path, text in self.model.files.items() if path.startswith("out/")}
        assert self.started() == self.model.starts


@pytest.mark.slow
class TestPipeline(Pipeline.TestCase):  # type: ignore[misc, name-defined]
    settings = settings(
        max_examples=8, stateful_step_count=10, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )
