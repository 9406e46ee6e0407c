"""What an apply costs that finds nothing to do: tasks written out, each with an input and an output; beside doit, ninja and DVC.

Every tool has a folder of its own with the same work, done once before; then all are asked again in turns. Figures: seconds,
ratios to doit and to a bare interpreter, the peak memory of the controller and its agent together, and whether the run
that is timed finds one flipped byte (same size). Limits: 0.4 s at 1,000 and 1.5 s at 10,000 (--large), 200 MiB, 2.5 times
doit, a twentieth of DVC (--dvc, minutes to prepare).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.cold_run import make
from benchmarks.common import OURS, UNUSUAL, folder, in_turns, peer, row, seconds

LIMITS_S = {1000: 0.4, 10_000: 1.5}
MANIFEST = "manifests/cold.yaml"
ROUNDS = 7
SAMPLE_S = 0.01


def build_file(where: Path, count: int) -> None:
    """The same work for ninja."""
    lines = ["rule copy", "  command = cp $in $out"]
    lines += [f"build out/{i}.txt: copy in/{i}.txt" for i in range(count)]
    (where / "build.ninja").write_text("\n".join(lines) + "\n")


def tools(base: Path, count: int, dvc: bool) -> dict[str, tuple[list[str], Path]]:
    """The command of each tool and its folder, where all work is done already."""
    found = {
        "albor-pipeline": [OURS, "apply", MANIFEST],
        "doit": [str(peer("doit")), "--verbosity", "0"],
        "ninja": [str(peer("ninja")), "--quiet"],
    }
    ready = {}
    for name, argv in found.items():
        where = make(base, count)
        build_file(where, count)
        seconds(argv, where)
        ready[name] = (argv, where)
    if dvc:
        ready["DVC"] = done_by_dvc(make(base, count))
    return ready


def done_by_dvc(where: Path) -> tuple[list[str], Path]:
    """`dvc repro` of work that is done: by sh, then recorded, since DVC's own first run of 1,000 stages takes a quarter of an hour."""
    command = str(peer("dvc"))
    for argv in (["sh", "run.sh"], [command, "init", "--no-scm", "--quiet"], [command, "commit", "--force", "--quiet"]):
        seconds(argv, where)
    said = subprocess.run([command, "repro"], cwd=where, capture_output=True, text=True, check=True).stdout
    if "Running stage" in said or "up to date" not in said:
        raise RuntimeError(f"DVC has something to do: {said[-800:]}")
    return [command, "repro", "--quiet"], where


def family(pid: int) -> list[int]:
    """A process and its descendants, as they are now."""
    found = [pid]
    for parent in found:
        try:
            found += map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
        except OSError:
            continue
    return found


def peak_mib(argv: list[str], cwd: Path) -> float:
    """The sum of the peaks of a command's processes."""
    usual = {name: value for name, value in os.environ.items() if name not in UNUSUAL}
    peaks: dict[int, int] = {}
    process = subprocess.Popen(argv, cwd=cwd, env=usual, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        for pid in family(process.pid):
            try:
                status = Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            found = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
            peaks[pid] = max([peaks.get(pid, 0), *found])
        time.sleep(SAMPLE_S)
    return sum(peaks.values()) / 1024


def finds_a_flip(argv: list[str], where: Path) -> str:
    """One byte of one output is changed in place; what the same command says and does."""
    path = where / "out" / "7.txt"
    before = path.read_bytes()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(bytes([before[0] ^ 1]))
    done = subprocess.run(argv, cwd=where, capture_output=True, text=True, check=False)
    if done.returncode == 0 or "out/7.txt modified" not in done.stderr:
        raise RuntimeError(f"a flipped byte was not found: {done.stdout}")
    subprocess.run([*argv, "--yes"], cwd=where, capture_output=True, check=True)
    if path.read_bytes() != before:
        raise RuntimeError("a flipped byte was found and not put right")
    return "found, and put right by --yes"


def compare(count: int, rounds: int, dvc: bool) -> None:
    """Ours beside the others at one number of tasks."""
    with folder() as base:
        ready = tools(base, count, dvc)
        measured = {name: (lambda argv=argv, where=where: seconds(argv, where)) for name, (argv, where) in ready.items()}  # type: ignore[misc]
        measured["bare python"] = lambda: seconds([sys.executable, "-c", "pass"], base)
        times = in_turns(measured, rounds)
        ours = times["albor-pipeline"]
        beside = f"limit {LIMITS_S[count]} s, {ours / times['bare python']:.1f} x bare python"
        row(f"{count:,} tasks, albor-pipeline", f"{ours:.2f} s", beside)
        for name in ready.keys() - {"albor-pipeline"}:
            row(f"{count:,} tasks, {name}", f"{times[name]:.2f} s", f"ours is {ours / times[name]:.2f} x that")
        argv, where = ready["albor-pipeline"]
        row(f"{count:,} tasks, peak memory with the agent", f"{peak_mib(argv, where):.0f} MiB", "limit 200 MiB")
        row(f"{count:,} tasks, one flipped byte", finds_a_flip(argv, where))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", action="store_true", help="also 10,000 tasks")
    parser.add_argument("--dvc", action="store_true", help="also DVC, at 1,000 tasks")
    args = parser.parse_args()
    compare(1000, ROUNDS, args.dvc)
    if args.large:
        compare(10_000, 5, False)


if __name__ == "__main__":
    main()
