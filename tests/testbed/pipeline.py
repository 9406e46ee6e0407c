"""A project folder whose verbs run at a desk of the test bed, against its machines; and what must be true after any fault."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from cli.builder import Project, Said

from testbed.bed import Bed
from testbed.machine import Machine
from testbed.network import Desk

LIMIT_S = 150.0
# How long a connection may be silent, then how long its answer may take; and what machines are told of leases. Users have 60 s there.
PATIENT, IMPATIENT = "15,30", "1,2"
SHORT_LEASE = "SetEnv ALBOR_TEST_LEASE_S=10\n"
# Each task tells of its start outside its outputs, and of a second one that runs beside it; the first waits for `go`.
TELL = "b=../${PWD##*/}; echo %s >> $b.starts; exec 9> $b.%s.lock; flock -n 9 || echo twice >> $b.starts"
WAIT = "until [ -e $b.go ]; do sleep 0.1; done"
NUMBERS = itertools.count(1)


def task(name: str, machine: str, work: str, *more: str) -> str:
    """A task that tells of its start, as it stands in the manifest; `more` are further lines of it."""
    lines = [f"{name}:", "  type: task", f"  machine: {machine}", "  command: >-", f"    {TELL % (name, name)};", f"    {work}"]
    return "\n".join([*lines, *(f"  {line}" for line in more), ""])


FIRST = task("first", "lambda", f"{WAIT}; mkdir -p out; seq 20000 > out/first.txt", "outputs: [out/first.txt]")
SECOND = task("second", "lambda", "sort -r out/first.txt > out/second.txt", "inputs: [first]", "outputs: [out/second.txt]")
THIRD = task("third", "intel", "mkdir -p out; seq 30000 > out/third.txt", "depends_on: [second]", "outputs: [out/third.txt]")
LADDER = FIRST + SECOND + THIRD


class Pipeline(Project):
    """A project of its own, with a folder of its own on each machine."""

    def __init__(self, root: Path, bed: Bed, desk: Desk | None = None, silence: str = PATIENT) -> None:
        super().__init__(root)
        self.bed = bed
        self.desk = desk or bed.desk
        self.name = f"run{next(NUMBERS)}"
        self.fields = dict.fromkeys(bed.machines, "")
        self.env = {"ALBOR_SSH_CONFIG": str(bed.config), "NO_COLOR": "1", "ALBOR_TEST_SILENCE_S": silence}

    def copy(self, root: Path, desk: Desk) -> Pipeline:
        """The same project, with the state as it is now, in another folder at another desk."""
        subprocess.run(["cp", "-a", f"{self.root}/.", str(root)], check=True)
        other = Pipeline(root, self.bed, desk)
        other.name, other.env = self.name, dict(self.env)
        return other

    def tasks(self, resources: str = LADDER) -> Self:
        """Write the manifest; `fields` has further fields by machine."""
        machines = "".join(f"  {name}: {{addr: {name}, workdir: ~/runs/{self.name}{more}}}\n" for name, more in self.fields.items())
        return self.manifest(resources, f"machines:\n{machines}")

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Run a verb beside the test, at the desk."""
        env = {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"} | self.env
        command = self.desk.words(sys.executable, "-m", "albor_pipeline", *argv)
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd=self.root, env=env, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
        self._running.append(process)
        return process

    def end(self, process: subprocess.Popen[str]) -> Said:
        """Wait for a started verb; what it says is left as it is."""
        out, err = process.communicate(timeout=LIMIT_S)
        return Said(out, err, process.returncode)

    def run(self, *argv: str, answer: str | None = None) -> Said:
        """Run a verb at the desk, without a terminal."""
        return self.end(self.start(*argv))

    def kill(self, process: subprocess.Popen[str]) -> None:
        """kill -9 of a controller."""
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()

    def there(self, machine: Machine, path: str, user: str = "root") -> Path:
        """A file of this project on a machine: `starts`, `go`, or a path below its folder when it has a slash."""
        runs = machine.home(user) / "runs"
        return runs / self.name / path if "/" in path else runs / f"{self.name}.{path}"

    def starts(self, user: str = "root") -> Counter[str]:
        """How often each task was started, on all machines."""
        files = [self.there(machine, "starts", user) for machine in self.bed.machines.values()]
        return Counter(word for path in files if path.exists() for word in path.read_text().split())

    def go(self, user: str = "root") -> Self:
        """Let the first task end."""
        for machine in (one for one in self.bed.machines.values() if one.is_on):
            path = self.there(machine, "go", user)
            path.parent.mkdir(exist_ok=True)
            path.touch()
        return self

    def begin(self, user: str = "root") -> subprocess.Popen[str]:
        """Start `apply` and wait until the first task runs."""
        process = self.start("apply")
        self.wait(lambda: self.starts(user)["first"] or process.poll() is not None)
        assert process.poll() is None, self.end(process)
        return process

    def attach(self) -> tuple[subprocess.Popen[str], float]:
        """The same command again, until it says that it is attached; also the seconds from its start to that."""
        began = time.monotonic()
        process = self.start("apply")
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if "attached" in line:
                return process, time.monotonic() - began
        raise AssertionError((told, self.end(process)))

    def goes_on(self) -> Self:
        """Attach to the attempt that lived on, let it end, and see a run that ends well."""
        process, _seconds = self.attach()
        self.go()
        said = self.end(process)
        assert said.exit == 0, said
        return self

    def proven(self) -> list[tuple[Any, ...]]:
        """What the state says of every resource: its status and the digests of its outputs."""
        said = self.run("status", "--json")
        assert said.exit == 0, said
        return [(row["resource_id"], row["status"], row["outputs"]) for row in json.loads(said.out)["resources"]]

    def ends_as(self, undisturbed: Sequence[tuple[Any, ...]], **starts: int) -> Self:
        """As a run without a fault: the same digests, nothing to do, each task started once (or as often as said), never two at once."""
        assert self.proven() == list(undisturbed)
        assert self.starts() == Counter({name: 1 for name, _status, _outputs in undisturbed} | starts)
        assert self.run("apply") == Said(f"Nothing to do: {len(undisturbed)} unchanged.\n", "", 0)
        return self
