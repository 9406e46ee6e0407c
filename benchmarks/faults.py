"""What outages cost: each fault strikes a run on two machines of the test bed, and the same command is typed until all is done.

    python -m benchmarks.faults [--only WORD]... [--markdown] [--round-trips]

Needs root (tests/testbed). The faults are in outages.py; whoever types waits a second after each end.
Lost is the time until everything is done beyond that of a run without a fault. All limits are those that users have.
`--round-trips` counts instead what a no-op plan and apply send over a slow line, by the slope of their time over the round trip's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import ROOT, folder, row
from benchmarks.outages import HUNGRY, MOVING, STAIRS, STRIKE_S, Fault, faults

sys.path.insert(0, str(ROOT / "tests"))
from testbed.base import obstacle
from testbed.bed import Bed
from testbed.pipeline import LADDER, Pipeline

TYPING_S = 1.0
LIMIT_S = 400.0
RTTS_MS = (50.0, 250.0)
RATE_MBIT = 100.0
CONNECT = """
import time
from albor_pipeline.model.manifest import Machine
from albor_pipeline.transport.ssh import SshTransport
began = time.perf_counter()
client = SshTransport().connect(Machine("lambda", "lambda", "lambda"), ".", "~/runs/connect", "L")
there = time.perf_counter()
client.request("code_has", digest="0" * 16)
asked = time.perf_counter()
client.close()
print(there - began, asked - there, time.perf_counter() - asked)
"""


@dataclass(frozen=True)
class Outcome:
    """What became of a run: exit codes of the command, starts of each task, and whether the outputs are those of a run without a fault."""

    exits: list[int]
    starts: str
    same: bool
    took_s: float
    attached_s: float | None
    rows: object


def run(project: Pipeline, fault: Fault) -> tuple[list[int], float, float | None]:
    """One run to its end: exit codes, seconds, and how long the second command took to attach. A second controller's exit comes first."""
    exits: list[int] = []
    attached = None
    began = time.monotonic()
    process = project.begin()
    if fault.when is None:
        time.sleep(STRIKE_S)
    while fault.when is not None and process.poll() is None and not fault.when(project):
        time.sleep(0.02)
    fault.strike(project)
    heals_at = time.monotonic() + fault.lasts_s if fault.heal else None
    if fault.kills_controller:
        project.kill(process)
        process, attached = project.attach()
        exits.append(-9)
    if fault.second:
        exits.append(_at_the_tower(project))
    while True:
        while process.poll() is None and time.monotonic() < began + LIMIT_S:
            if fault.heal is not None and heals_at is not None and time.monotonic() >= heals_at:
                heals_at = None
                fault.heal(project)
            time.sleep(0.02)
        exits.append(project.end(process).exit)
        if exits[-1] == 0 or time.monotonic() > began + LIMIT_S:
            return exits, time.monotonic() - began, attached
        time.sleep(TYPING_S)
        process = project.start("apply")


def _at_the_tower(project: Pipeline) -> int:
    """The exit code of the same command with the same state on another host."""
    other = project.root.with_name(f"{project.root.name}-tower")
    other.mkdir()
    return project.copy(other, project.bed.tower).run("apply").exit


def outcome(bed: Bed, where: Path, fault: Fault, wanted: object) -> Outcome:
    """What a fault did."""
    where.mkdir()
    project = Pipeline(where, bed).tasks(fault.resources)
    if fault.before is not None:
        fault.before(project)
    exits, took_s, attached = run(project, fault)
    starts = ", ".join(f"{name} {count}" for name, count in sorted(project.starts().items()))
    rows = project.proven()
    project.close()
    if fault.after is not None:
        fault.after(project)
    bed.repair()
    return Outcome(exits, starts, exits[-1] == 0 and wanted in (None, rows), took_s, attached, rows)


def table(bed: Bed, where: Path, only: Sequence[str], markdown: bool) -> None:
    """One line a fault; the agent is on the machines before the first run is measured."""
    chosen = [fault for fault in faults(bed, where) if not only or any(word in fault.name for word in only)]
    (where / "first").mkdir()
    Pipeline(where / "first", bed).tasks(STAIRS).run("plan")
    without: dict[str, Outcome] = {}
    for resources in dict.fromkeys(fault.resources for fault in chosen):
        like = next(fault for fault in chosen if fault.resources == resources)
        quiet = Fault("no fault", lambda project: None, resources=resources, before=like.before, after=like.after, when=like.when)
        without[resources] = outcome(bed, where / f"undisturbed{len(without)}", quiet, None)
        name = {MOVING: "no fault, a transfer", HUNGRY: "no fault, a task that takes memory"}.get(resources, "no fault")
        row(name, f"{without[resources].took_s:.1f} s", f"exit {without[resources].exits}")
    if markdown:
        print("| fault | exits of the same command | starts | outputs | lost |\n|---|---|---|---|---|")
    for number, fault in enumerate(chosen):
        undisturbed = without[fault.resources]
        found = outcome(bed, where / str(number), fault, undisturbed.rows)
        lost = f"{found.took_s - undisturbed.took_s:.1f} s"
        same = "the same" if found.same else "OTHERS"
        codes = ", ".join(map(str, found.exits))
        if markdown:
            print(f"| {fault.name} | {codes} | {found.starts} | {same} | {lost} |", flush=True)
        else:
            row(fault.name, lost, f"exit {codes}; {found.starts}; outputs {same}")
        if found.attached_s is not None:
            row("from typing again to `attached`", f"{found.attached_s:.2f} s")


def round_trips(bed: Bed, where: Path, rounds: int = 3) -> None:
    """How many round trips connecting, asking, closing, and whole commands take, and what a no-op takes at 50 ms and 100 Mbit/s."""
    where.mkdir()
    project = Pipeline(where, bed).tasks(LADDER).go()
    assert project.run("apply").exit == 0
    times: dict[str, dict[float, float]] = {}
    for rtt_ms in RTTS_MS:
        for machine in bed.machines.values():
            machine.link.slow(rtt_ms, RATE_MBIT)
        samples: dict[str, list[float]] = {}
        for _ in range(rounds):
            for name, seconds in sample(project).items():
                samples.setdefault(name, []).append(seconds)
        for name, values in samples.items():
            times.setdefault(name, {})[rtt_ms] = statistics.median(values)
    first, second = RTTS_MS
    for name, found in times.items():
        slope = (found[second] - found[first]) / (second - first) * 1000
        row(f"{name}", f"{slope:.1f} RTT", f"{found[first]:.2f} s at {first:g} ms, {found[second]:.2f} s at {second:g} ms")


def sample(project: Pipeline) -> dict[str, float]:
    """Seconds of each part, once."""
    env = " ".join(f"{name}={value}" for name, value in project.env.items())
    said = project.desk.do("/bin/sh", "-c", f'cd "$0" && {env} exec "$1" -c "$2"', str(ROOT), sys.executable, CONNECT)
    found = dict(zip(("connect and hello", "one request", "hang up"), map(float, said.split()), strict=True))
    for verb in ("plan", "apply"):
        began = time.perf_counter()
        done = project.run(verb)
        found[f"{verb}, nothing to do, all of it"] = time.perf_counter() - began
        assert done.exit == 0, done
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="only faults with this text in their name, or another")
    parser.add_argument("--markdown", action="store_true", help="the table as docs/reliability.md has it")
    parser.add_argument("--round-trips", action="store_true", help="count round trips instead")
    args = parser.parse_args()
    reason = obstacle()
    if reason:
        sys.exit(f"faults: {reason}")
    with folder() as where, Bed(where / "bed") as bed:
        if args.round_trips:
            round_trips(bed, where / "slow")
        else:
            table(bed, where, args.only, args.markdown)


if __name__ == "__main__":
    main()
