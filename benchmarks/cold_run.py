"""What a trivial task costs, durable at start and end and with a digested output; beside sh, doit and (with --dvc) DVC.

Task i copies one file. Figures: milliseconds a task more than `sh`, fsyncs a task (counted in libc), the same at 100 and
10,000 tasks written out (--large), and with every fsync 2 ms slower. Limits: 5 ms a task more than sh, 4 fsyncs a task.

Every run has a folder of its own, removed when all are done: ext4 without a journal searches long for a free inode in the
minute after many were freed, and whoever runs next would pay for the clean-up of the one before.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.common import OURS, folder, in_turns, peer, row, seconds, shim

DODO = """
def task_copy():
    for i in range({count}):
        source, target = f"in/{{i}}.txt", f"out/{{i}}.txt"
        yield {{"name": str(i), "actions": [f"cp {{source}} {{target}}"], "file_dep": [source], "targets": [target]}}
"""


def make(base: Path, count: int) -> Path:
    """A new folder with `count` inputs and a description of the same work for each tool."""
    where = Path(tempfile.mkdtemp(dir=base))
    (where / "out").mkdir()
    (where / "in").mkdir(parents=True)
    (where / "manifests").mkdir()
    lines = ['version: "1.0"', "name: cold", "resources:"]
    stages = ["stages:"]
    for i in range(count):
        (where / "in" / f"{i}.txt").write_text(f"{i}\n")
        copy = f"cp in/{i}.txt out/{i}.txt"
        lines += [f"  t{i}:", "    type: task", f"    command: {copy}", f"    inputs: [in/{i}.txt]", f"    outputs: [out/{i}.txt]"]
        stages += [f"  t{i}:", f"    cmd: {copy}", f"    deps: [in/{i}.txt]", f"    outs: [out/{i}.txt]"]
    (where / "manifests" / "cold.yaml").write_text("\n".join(lines) + "\n")
    (where / "run.sh").write_text("".join(f"cp in/{i}.txt out/{i}.txt\n" for i in range(count)))
    (where / "dodo.py").write_text(DODO.format(count=count))
    (where / "dvc.yaml").write_text("\n".join(stages) + "\n")
    return where


def compare(count: int, rounds: int, dvc: bool) -> None:
    """Ours beside the others at one number of tasks."""
    with folder() as base:

        def cold(*argv: str, env: dict[str, str] | None = None) -> float:
            return seconds(argv, make(base, count), env)

        def cold_dvc() -> float:
            where = make(base, count)
            seconds([str(peer("dvc")), "init", "--no-scm", "--quiet"], where)
            return seconds([str(peer("dvc")), "repro", "--quiet"], where)

        ours = (OURS, "apply", "manifests/cold.yaml")
        tools = {"sh": lambda: cold("sh", "run.sh"), "albor-pipeline": lambda: cold(*ours)}
        if count <= 1000:
            tools["doit"] = lambda: cold(str(peer("doit")), "--verbosity", "0")
        if dvc:
            tools["DVC"] = cold_dvc
        times = in_turns(tools, rounds)
        for name, value in times.items():
            more = (value - times["sh"]) / count * 1000
            row(f"{count} tasks, {name}", f"{value:.2f} s", f"{more:.2f} ms a task more than sh")
        library, counter = shim(base), base / "fsyncs"
        cold(*ours, env={"LD_PRELOAD": str(library), "FSYNC_COUNT": str(counter)})
        row(f"{count} tasks, fsyncs", f"{counter.stat().st_size / count:.2f} a task", "limit 4")
        slow = cold(*ours, env={"LD_PRELOAD": str(library), "FSYNC_MS": "2"})
        row(f"{count} tasks, every fsync 2 ms slower", f"{slow:.2f} s", f"{(slow - times['sh']) / count * 1000:.2f} ms a task more than sh")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="also 10,000 tasks")
    parser.add_argument("--dvc", action="store_true", help="also DVC, at 100 tasks")
    args = parser.parse_args()
    compare(100, 3, args.dvc)
    compare(1000, 3, False)
    if args.large:
        compare(10_000, 1, False)


if __name__ == "__main__":
    main()
