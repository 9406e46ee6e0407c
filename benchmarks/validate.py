"""What `validate` costs, beside PyYAML's C loader reading the same file; and what a plan of 100 machines costs.

The file: 10,000 resources written out, one of three a file, the others tasks in chains, each value at its own place. Figures: wall
seconds of the whole command beside `yaml.load(CSafeLoader)` in a process of its own, measured in turns; peak memory; the same at
20,000. Limits: at most yaml.load + 0.5 s, twice that at twice the size, 200 MiB.

The plan: 100 machines with 100 resources each, every machine answered for by a double that takes 1 ms a request. Limit: 3 s, linear.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from albor_pipeline.manifest.load import load
from albor_pipeline.plan import graph
from albor_pipeline.plan.judge import Options, make_plan
from albor_pipeline.run import lint
from albor_pipeline.run.observe import Observer
from albor_pipeline.run.secrets import Vault
from albor_pipeline.state.folder import StateFolder
from benchmarks.common import OURS, UNUSUAL, folder, in_turns, row, seconds

COUNTS = (10_000, 20_000)
ROUNDS = 5
HEAD = 'version: "1.0"\nname: large\n'
YAML = "import sys, yaml; yaml.load(open(sys.argv[1], 'rb'), Loader=yaml.CSafeLoader)"
REQUEST_S = 0.001


def written_out(count: int, machine: str = "localhost") -> str:
    """`count` resources in block style."""
    lines: list[str] = []
    for i in range(count):
        if i % 3 == 0:
            lines += [f"  f{i}-{machine}:", "    type: file", f"    machine: {machine}", f"    path: conf/{i}.txt",
                      f"    content: value {i}", '    mode: "0644"']  # fmt: skip
            continue
        before = f"    depends_on: [f{i - 1}-{machine}]" if i % 3 == 1 else f"    inputs: [t{i - 1}-{machine}]"
        lines += [f"  t{i}-{machine}:", "    type: task", f"    machine: {machine}", f"    command: make out/{i}.txt", before,
                  f"    outputs: [out/{i}.txt]", "    timeout: 10m", "    tags: [bulk]"]  # fmt: skip
    return "\n".join(lines) + "\n"


def peak_mb(argv: Sequence[str], cwd: Path) -> float:
    """The peak memory of one command."""
    usual = {name: value for name, value in os.environ.items() if name not in UNUSUAL}
    process = subprocess.Popen(argv, cwd=cwd, env=usual, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{argv[0]} exited {process.returncode}")
    return used.ru_maxrss / 1024


def validate(where: Path) -> None:
    """`validate` beside PyYAML at both sizes."""
    for count in COUNTS:
        path = where / f"{count}.yaml"
        path.write_text(f"{HEAD}resources:\n{written_out(count)}")
        ours, loader = [OURS, "validate", str(path)], [sys.executable, "-c", YAML, str(path)]
        times = in_turns({"yaml": lambda argv=loader: seconds(argv, where), "ours": lambda argv=ours: seconds(argv, where)}, ROUNDS)  # type: ignore[misc]
        limit = times["yaml"] + 0.5 * count / COUNTS[0]
        row(f"{count:,} resources, yaml.load, CSafeLoader", f"{times['yaml']:.2f} s", f"{peak_mb(loader, where):.0f} MiB")
        beside = f"limit {limit:.2f} s, {times['ours'] / times['yaml']:.2f} x yaml.load"
        row(f"{count:,} resources, validate", f"{times['ours']:.2f} s", beside)
        row(f"{count:,} resources, peak memory", f"{peak_mb(ours, where):.0f} MiB", "limit 200 MiB")


class Answers:
    """A fleet of machines that are all there, hold nothing, and answer a request in a millisecond."""

    def __init__(self, names: Sequence[str]) -> None:
        hello = {"machine_id": "", "boot_id": "boot", "attempts": [], "unchanged": [], "gpus": [], "cpus": 2}
        self.agents: Mapping[str, Any] = {name: Agent({**hello, "machine_id": name}) for name in names}
        self.errors: Mapping[str, str] = {}
        self.unmade = self.made = frozenset[str]()
        self.lineage = ""

    def ask(self, machine: str, items: Sequence[Mapping[str, Any]]) -> Callable[[], list[dict[str, Any]]]:
        time.sleep(REQUEST_S)
        return lambda: [{"found": False, "type": None, "root": None} for _ in items]


class Agent:
    """What a connection said at its beginning."""

    def __init__(self, hello: Mapping[str, Any]) -> None:
        self.hello = hello


def plan(where: Path, machines: int) -> float:
    """Seconds from the file to the plan; the agents' answers are the only part that is not real."""
    names = [f"m{i}" for i in range(machines)]
    path = where / f"plan{machines}.yaml"
    declared = "".join(f"  {name}: {{ addr: 10.0.{i // 200}.{i % 200 + 1} }}\n" for i, name in enumerate(names))
    body = "".join(written_out(100, name) for name in names)
    path.write_text(f"{HEAD}machines:\n{declared}resources:\n{body}")
    began = time.perf_counter()
    manifest = load(path)
    built = graph.build(manifest)
    state = StateFolder.open(where / "state", manifest.name, write=False).state
    observer = Observer(manifest, built, Answers(names), Vault(manifest), where / "state")  # type: ignore[arg-type]
    observer.read_project(built.order)
    observer.ask(built.order, state)
    observed = observer.observe(built.order)
    made = make_plan(manifest, built, state, observed, Options(), observer.inputs)
    told = [*lint.findings(manifest, keep=True), *(item for item in made.diagnostics if item.level == "error")]
    if told or len(made.steps) != machines * 100:
        raise RuntimeError(f"{len(made.steps)} steps, {told[:1]}")
    return time.perf_counter() - began


def main() -> None:
    with folder() as where:
        validate(where)
        times = in_turns({str(count): lambda count=count: plan(where, count) for count in (50, 100)}, ROUNDS)  # type: ignore[misc]
        row("plan of 50 machines x 100 resources", f"{times['50']:.2f} s")
        row("plan of 100 machines x 100 resources", f"{times['100']:.2f} s", f"limit 3 s, {times['100'] / times['50']:.2f} x the half")


if __name__ == "__main__":
    main()
