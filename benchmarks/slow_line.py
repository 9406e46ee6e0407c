"""What goes over a slow line, beside the line's own rate: a machine of the test bed, 50 ms of round trip, 100 Mbit/s.

    python -m benchmarks.slow_line [--size-mib 64] [--rtt-ms 50] [--rate-mbit 100] [--rounds 3]

Needs root (tests/testbed). One file of random bytes goes there as an artifact, over the system's `ssh` and over paramiko, as a file
of the project, and by `scp`. Connections of ours are open before, theirs are made by each command,
so the floor beside them is a bare `ssh` with `cat` over the same line.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from albor_pipeline.agent import hashing, trees
from albor_pipeline.agent.layout import Layout
from albor_pipeline.model.manifest import Machine
from albor_pipeline.run import sending
from albor_pipeline.run.project import Project
from albor_pipeline.run.relay import Errand, Relay
from albor_pipeline.transport import openssh
from albor_pipeline.transport.client import AgentClient
from albor_pipeline.transport.local import LocalTransport
from albor_pipeline.transport.ssh import SshTransport
from benchmarks.common import ROOT, folder, in_turns, row, seconds
from benchmarks.moves import carried

sys.path.insert(0, str(ROOT / "tests"))
from testbed.base import obstacle
from testbed.bed import Bed

BOX = "lambda"
LIMIT = "limit 0.9"


class Ends:
    """The agents here and there: `first` over paramiko, `second` over the system's `ssh`."""

    def __init__(self, here: Path) -> None:
        self.here = here
        there = Machine(BOX, BOX, BOX, workdir="~/slow")
        self.source = LocalTransport().connect(Machine("here", "localhost", "here"), str(here), "L")
        self.first = SshTransport().connect(there, str(here), "~/slow", "L")
        self.source.request("lease", holder="a benchmark")
        self.second = openssh.start(there, str(here), "~/slow", "L")
        self.second.request("lease", token=self.keep_lease())

    def keep_lease(self) -> str:
        """The lease of the machine, whose first connection may have been silent for long."""
        return str(self.first.request("lease", holder="a benchmark")["token"])

    def clear(self) -> None:
        """Nothing of what was sent is there any more."""
        self.first.request("sh", script="rm -rf big .albor/incoming .albor/store .albor/project*")

    def move(self, target: AgentClient) -> float:
        """Seconds of the file as an artifact."""
        self.clear()
        self.keep_lease()
        found = trees.read_tree(str(self.here / "big"), lambda where, _info: hashing.digest_file(where))
        assert found is not None
        trees.record(Layout(str(self.here)), found)
        errand = Errand("here", "big", BOX, "big", found.root, "use", "0001")
        return carried(lambda: Relay(errand, self.source, target), {"here": self.source, BOX: target})[0]

    def project(self) -> float:
        """Seconds of the file as the only one of a project."""
        self.clear()
        self.keep_lease()
        project = Project(self.here, lambda path: path != "big")
        project.look()
        fleet: Any = SimpleNamespace(agents={BOX: self.first})
        began = time.perf_counter()
        (got,) = sending.send(project, fleet, [BOX], "0001")
        if got.error or got.sent != 1:
            raise RuntimeError(got.error or "it was there already")
        return time.perf_counter() - began


def at_the_desk(here: Path, size: int, rate: float, rounds: int) -> None:
    """One line a measure; run where the machine is reached over the slow line."""
    ends = Ends(here)
    config = os.environ["ALBOR_SSH_CONFIG"]
    big = str(here / "big")
    what: dict[str, Callable[[], float]] = {
        "artifact over `ssh`": lambda: ends.move(ends.second),
        "artifact over paramiko": lambda: ends.move(ends.first),
        "file of the project, over paramiko": ends.project,
        "cat over ssh": lambda: seconds(["sh", "-c", f"ssh -F {config} {BOX} 'cat > by-cat' < {big}"], here),
        "scp": lambda: seconds(["scp", "-q", "-F", config, big, f"{BOX}:by-scp"], here),
    }
    line = rate * 1e6 / 8
    for name, took in in_turns(what, rounds).items():
        beside = LIMIT if name.startswith(("artifact", "file")) else ""
        row(f"{size >> 20} MiB, {name}", f"{took:.2f} s", f"{size / took / 1e6:.2f} MB/s, {size / took / line:.2f} of the line  {beside}")
    ends.first.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=64)
    parser.add_argument("--rtt-ms", type=float, default=50.0)
    parser.add_argument("--rate-mbit", type=float, default=100.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--desk", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.desk:
        at_the_desk(Path(args.desk), args.size_mib << 20, args.rate_mbit, args.rounds)
        return
    reason = obstacle()
    if reason:
        sys.exit(f"slow_line: {reason}")
    with folder() as where, Bed(where / "bed", names=(BOX,)) as bed:
        subprocess.run(["git", "init", "-q", str(where / "here")], check=True)  # else it is an ignored folder of ours
        with (where / "here/big").open("wb") as file:
            for _ in range(args.size_mib):
                file.write(os.urandom(1 << 20))
        bed.machines[BOX].link.slow(args.rtt_ms, args.rate_mbit)
        words = bed.desk.words(sys.executable, "-m", "benchmarks.slow_line", *sys.argv[1:], "--desk", str(where / "here"))
        subprocess.run(words, cwd=ROOT, env={**os.environ, "ALBOR_SSH_CONFIG": str(bed.config)}, check=True)



if __name__ == "__main__":
    main()
