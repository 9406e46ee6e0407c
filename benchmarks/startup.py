"""How long a command takes to start: --help, a cold and a warm plan of the quickstart, a no-op apply; beside a bare interpreter.

Limits: --help 120 ms, plan 1.2 s cold and 400 ms warm, a no-op apply under 1 s (the last needs `make quickstart` first).
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks.common import BIN, OURS, ROOT, folder, in_turns, row, seconds

MANIFEST = "manifests/quickstart.yaml"
ROUNDS = 7


def project(where: Path) -> Path:
    """A copy of what plan reads: manifests and stages."""
    for name in ("manifests", "stages"):
        shutil.copytree(ROOT / name, where / name, ignore=shutil.ignore_patterns("__pycache__"))
    return where


def main() -> None:
    with folder() as where:
        root = project(where)

        def cold() -> float:
            shutil.rmtree(root / ".albor", ignore_errors=True)
            return seconds([OURS, "plan", MANIFEST], root)

        times = in_turns(
            {
                "bare python": lambda: seconds([sys.executable, "-c", "pass"], root),
                "albor-pipeline --help": lambda: seconds([OURS, "--help"], root),
                "albor-stage --help": lambda: seconds([str(BIN / "albor-stage"), "--help"], root),
                "plan, cold": cold,
                "plan, warm": lambda: seconds([OURS, "plan", MANIFEST], root),
            },
            ROUNDS,
        )
    if (ROOT / "state").is_dir():
        times |= in_turns({"apply, nothing to do": lambda: seconds([OURS, "apply", MANIFEST], ROOT)}, ROUNDS)
    floor = times["bare python"]
    for name, value in times.items():
        row(name, f"{value * 1000:.0f} ms", f"{value / floor:.1f} x bare python")


if __name__ == "__main__":
    main()
