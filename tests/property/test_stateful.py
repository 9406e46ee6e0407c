"""Edits of all kinds, kill -9, restore, gc, renames and moves in any order, against a model of what must be there, run and be kept."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from model_stateful import ADDED, DECLARES, MAKES, READS, Model, command

from albor_pipeline.cli import main

LIMIT_S = 30.0
WORDS = st.sampled_from(["x", "y", "z"])
TEXTS = st.sampled_from(["1\n", "2\n", "1\n2\n"])
TASKS = st.sampled_from(sorted(READS))
IN_TOOL, BY_PARAM = "e", "a"


class Pipeline(RuleBasedStateMachine):
    """The real command in a folder of its own beside the model."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.places = (Path(self._folder.name) / f"place {number}" for number in itertools.count(1))
        self.root = next(self.places)
        (self.root / "out").mkdir(parents=True)
        self.numbers = itertools.count(1)
        self.model = Model(dict.fromkeys(READS, "x"))
        self.names = {name: name for name in READS}
        self.moved: dict[str, str] = {}
        for name in ("in.txt", "more.txt"):
            self.edit_input(name, "1\n")

    def teardown(self) -> None:
        (self.root / "hold").unlink(missing_ok=True)
        self.quiet()
        self._folder.cleanup()

    def call(self, *argv: str, codes: Iterable[int] = (0,)) -> str:
        self.write_manifest()
        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(self.root), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([*argv, "p.yaml"])
        assert code in codes, f"{argv} ended with {code}: {out.getvalue()}{err.getvalue()}"
        return out.getvalue()

    def ask(self, *argv: str, codes: Iterable[int] = (0,)) -> Mapping[str, Any]:
        document: Mapping[str, Any] = json.loads(self.call(*argv, "--json", codes=codes))
        return document

    def write_manifest(self) -> None:
        words = {name: f"echo {word}" for name, word in self.model.words.items()}
        words |= {IN_TOOL: "sh tool.sh", BY_PARAM: "echo {{params.word}}"}
        lines = ['version: "1.0"', "name: p", f"params: {{ word: {self.model.words[BY_PARAM]} }}"]
        lines += [f"moved: [{', '.join(f'{{from: {old}, to: {new}}}' for old, new in self.moved.items())}]"] if self.moved else []
        lines += ["resources:"]
        for name, reads in READS.items():
            makers = (next((task for task, made in MAKES.items() if path in made), None) for path in reads)
            inputs = dict.fromkeys(self.names[maker] if maker else path for maker, path in zip(makers, reads, strict=True))
            lines += [f"  {self.names[name]}:", "    type: task", "    command: |-", f"      {command(name, words[name])}"]
            lines += [f"    inputs: [{', '.join(inputs)}]", f"    outputs: ['{DECLARES[name]}']"]
        texts = {"p.yaml": "\n".join(lines) + "\n", "tool.sh": f"echo {self.model.words[IN_TOOL]}\n"}
        for name, text in texts.items():
            file = self.root / name
            if not file.exists() or file.read_text() != text:  # a task that is running may just be reading it
                file.write_text(text)

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

    def kept(self) -> list[tuple[tuple[str, str], Mapping[str, Any]]]:
        """Every result that the store lists, by task and what it was made from."""
        results = self.ask("store", "ls")["machines"][0]["results"]
        return [((one["resource"][0], one["summary"]["headline"]), one) for one in results]

    def proven(self) -> dict[str, str]:
        """What the result in force was made from, by task."""
        rows = (row for row in self.ask("state", "list")["rows"] if row.get("in_force"))
        return {row["resource"][0]: row["in_force"]["summary"]["headline"] for row in rows}

    @initialize(at_once=st.booleans())
    def first(self, at_once: bool) -> None:
        if at_once:
            self.apply()

    @rule(name=TASKS, word=WORDS)
    def edit_word(self, name: str, word: str) -> None:
        """A command, a param, or the code that a command names."""
        self.model.words[name] = word

    @rule(name=st.sampled_from(["in.txt", "more.txt"]), text=TEXTS)
    def edit_input(self, name: str, text: str) -> None:
        self.model.files[name] = text
        (self.root / name).write_text(text)

    @rule(name=TASKS, second=st.booleans(), how=st.sampled_from(["replace", "write through", "add", "delete"]))
    def edit_output(self, name: str, second: bool, how: str) -> None:
        """By hand; a file that is written through its second name takes the kept object with it."""
        path = ADDED.get(name, MAKES[name][0]) if how == "add" else MAKES[name][-1 if second else 0]
        there, text = self.root / path, None if how == "delete" else f"by hand {next(self.numbers)}\n"
        if how == "write through" and there.exists() and there.stat().st_nlink > 1:
            self.model.spoilt.add(self.model.files[path])
            there.chmod(0o644)
        else:
            there.unlink(missing_ok=True)
        self.model.write(path, text)
        if text is not None:
            self.model.users.add(text)
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_text(text)

    @rule()
    def apply(self) -> None:
        self.model.apply()
        self.ask("apply", "--yes")
        assert {step["action"] for step in self.ask("plan")["steps"]} == {"skip"}
        assert self.ask("drift")["findings"] == []
        assert self.ask("audit")["integrity"] == []

    @rule(name=TASKS, word=WORDS, starts=st.integers(0, 3))
    def kill_and_go_on(self, name: str, word: str, starts: int) -> None:
        """The same command again at once, with attempts alive or not: as if it had never been killed."""
        self.edit_word(name, word)
        self.kill_apply(after=starts)
        self.apply()

    @rule(name=TASKS, word=WORDS, starts=st.integers(0, 3))
    def kill_and_leave(self, name: str, word: str, starts: int) -> None:
        """What was started ends by itself; what the journal saw of it is recorded, the rest waits to be adopted."""
        self.edit_word(name, word)
        self.kill_apply(after=starts)
        self.quiet()
        self.take_over(frozenset())

    @rule(name=TASKS)
    def kill_a_supervisor(self, name: str) -> None:
        """With its controller, while a command that is new runs; that one goes on to its end, and nobody sees it."""
        self.edit_word(name, f"w{next(self.numbers)}")
        (self.root / "hold").write_text(f"{name}\n")
        self.kill_apply(after=1, of=name)
        lost = frozenset([name] if self.started()[name] > self.model.starts[name] else ())
        for attempt in self.ask("ps")["attempts"] if lost else ():
            if attempt["resource"] == self.names[name]:
                os.kill(json.loads((self.root / attempt["folder"] / "pid").read_text())["pid"], signal.SIGKILL)
        (self.root / "hold").unlink()
        self.quiet()
        self.take_over(lost)

    def kill_apply(self, after: int, of: str = "") -> None:
        """Start a controller, and kill it as soon as so many tasks were started, if there are so many to start."""
        self.write_manifest()
        before = self.started()
        argv = [sys.executable, "-m", "albor_pipeline", "apply", "p.yaml", "--yes"]
        process = subprocess.Popen(argv, cwd=self.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None and sum(n for name, n in (self.started() - before).items() if of in ("", name)) < after:
            time.sleep(0.005)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def take_over(self, lost: frozenset[str]) -> None:
        """How far a killed run came is not the model's to say, but that each step is done, begun or as before is."""
        fresh, proven = self.started() - self.model.starts, self.proven()
        left: set[str] = set()
        for name, reads in READS.items():
            made, action = self.model.wanted(name), self.model.action(name)
            if any(path in MAKES[up] for up in left for path in reads):
                left.add(name)
                assert not fresh[name], f"{name} was started before what it reads was made"
                continue
            assert fresh[name] <= (action == "run"), f"{name} was started {fresh[name]} times, the model says {action}"
            if fresh[name]:
                self.model.lost(name) if name in lost else self.model.started(name)
            elif action == "restore" and self.seen(name) == made[1]:
                self.model.put(name, made[1])
                self.model.use(name)
            if action != "skip" and proven.get(name) == made[0] and self.model.there(name) == made[1] and name not in lost:
                self.model.proven[name] = made
                self.model.attempted.pop(name, None)
            elif action != "skip":
                left.add(name)

    def seen(self, name: str = "") -> dict[str, str]:
        """The files at the outputs of a task, or of all."""
        found = {path.relative_to(self.root).as_posix(): path.read_text() for path in (self.root / "out").rglob("*") if path.is_file()}
        return {path: text for path, text in found.items() if path.startswith(f"out/{name}")}

    @rule(keep_runs=st.integers(0, 2))
    def clean(self, keep_runs: int) -> None:
        """What is in force stays, what was made and is to be adopted, and what the last runs made or used."""
        before = self.kept()
        runs = sorted({one["run"] for _, one in before})
        needed = {key for key, one in before if one["run"] in runs[len(runs) - keep_runs :]} | self.model.in_force()
        needed |= {(name, tag) for name, (tag, _) in self.model.attempted.items()}
        self.model.kept = {key: made for key, made in self.model.kept.items() if key in needed}
        self.call("store", "gc", "--keep-runs", str(keep_runs))

    @rule(name=TASKS, by_hand=st.booleans())
    def rename(self, name: str, by_hand: bool) -> None:
        """Of what is settled: a row of what runs is refused another name."""
        self.apply()
        old, new = self.names[name], f"{name}{next(self.numbers)}"
        self.moved = {}
        if by_hand:
            self.call("state", "mv", old, new)
        else:
            self.moved = {old: new}
        self.names[name] = new
        self.apply()

    @rule()
    def move_the_folder(self) -> None:
        self.root = self.root.rename(next(self.places))

    @rule()
    def drift(self) -> None:
        findings = self.ask("drift", codes=(0, 4))["findings"]
        assert {item["resource"] for item in findings} == {self.names[name] for name in self.model.drifted()}

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        assert self.seen() == {path: text for path, text in self.model.files.items() if path.startswith("out/")}
        assert self.started() == self.model.starts
        assert {key for key, _ in self.kept()} == self.model.kept.keys()
        aside = {path.read_text() for path in (self.root / ".albor" / "kept").rglob("*") if path.is_file()}
        assert self.model.users <= aside | set(self.seen().values())


def histories(count: int, steps: int) -> settings:
    """So many, each so long; a failing one is shown as it is, since to shorten it takes minutes."""
    return settings(
        max_examples=count, stateful_step_count=steps, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
    )


@pytest.mark.slow
class TestPipeline(Pipeline.TestCase):  # type: ignore[misc, name-defined]
    settings = histories(3, 10)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(30))
def test_long_histories(number: int) -> None:
    """A few from each seed: hypothesis makes later histories out of earlier ones, and those differ less."""
    run_state_machine_as_test(seed(number)(Pipeline), settings=histories(4, 25))  # type: ignore[no-untyped-call]
