"""What a trivial task costs, durable at start and end and with a digested output; beside sh, doit and (with --dvc) DVC.

Task i copies one file. Figures: milliseconds a task more than `sh`, fsyncs a task (counted in libc), the same at 100 and
10,000 tasks written out (--large), and with every fsync 2 ms slower. Limits: 5 ms a task more than sh, 4 fsyncs a task.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from benchmarks.common import OURS, folder, in_turns, peer, row, seconds, shim

DODO = """
def task_copy():
    for i in range({count}):
        source, target = f"in/{{i}}.txt", f"out/{{i}}.txt"
        yield {{"name": str(i), "actions": [f"cp {{source}} {{target}}"], "file_dep": [source], "targets": [target]}}
"""


def make(where: Path, count: int) -> Path:
    """A folder with `count` inputs and a description of the same work for each tool."""
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


def clean(where: Path) -> None:
    """Back to the state before any run."""
    for name in ("out", "state", ".albor", ".doit.db", ".doit.db.db"):
        path = where / name
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    (where / "out").mkdir()


def ours(where: Path, env: dict[str, str] | None = None) -> float:
    """One cold run of ours."""
    clean(where)
    return seconds([OURS, "apply", "manifests/cold.yaml"], where, env)


def other(where: Path, *argv: str) -> float:
    """One cold run of another tool."""
    clean(where)
    return seconds(argv, where)


def compare(count: int, rounds: int, dvc: bool) -> None:
    """Ours beside the others at one number of tasks."""
    with folder() as base:
        where = make(base / "work", count)
        tools = {"sh": lambda: other(where, "sh", "run.sh"), "albor-pipeline": lambda: ours(where)}
        if count <= 1000:
            tools["doit"] = lambda: other(where, str(peer("doit")), "--verbosity", "0")
        if dvc:
            seconds([str(peer("dvc")), "init", "--no-scm", "--quiet"], where)
            tools["DVC"] = lambda: other(where, str(peer("dvc")), "repro", "--quiet")
        times = in_turns(tools, rounds)
        for name, value in times.items():
            more = (value - times["sh"]) / count * 1000
            row(f"{count} tasks, {name}", f"{value:.2f} s", f"{more:.2f} ms a task more than sh")
        library = shim(base)
        counter = base / "fsyncs"
        ours(where, {"LD_PRELOAD": str(library), "FSYNC_COUNT": str(counter)})
        row(f"{count} tasks, fsyncs", f"{counter.stat().st_size / count:.2f} a task", "limit 4")
        slow = ours(where, {"LD_PRELOAD": str(library), "FSYNC_MS": "2"})
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
