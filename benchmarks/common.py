"""What the benchmark scripts share: timing in turns, medians, a libc shim that counts and slows fsync. Measures nothing itself."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
OURS = str(BIN / "albor-pipeline")

UNUSUAL = ("PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED")  # set in some containers; without bytecode every start compiles

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
static void note(void) {
    const char *path = getenv("FSYNC_COUNT"), *ms = getenv("FSYNC_MS");
    if (path) {
        int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
        if (fd >= 0) { if (write(fd, "x", 1) < 0) {} close(fd); }
    }
    if (ms) { struct timespec t = {0, (long)(atof(ms) * 1e6)}; nanosleep(&t, 0); }
}
int fsync(int fd) { static int (*real)(int); if (!real) real = dlsym(RTLD_NEXT, "fsync"); note(); return real(fd); }
int fdatasync(int fd) { static int (*real)(int); if (!real) real = dlsym(RTLD_NEXT, "fdatasync"); note(); return real(fd); }
"""


@contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder beside the project, so that it lies on the same disk."""
    (ROOT / "build").mkdir(exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=ROOT / "build"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def seconds(argv: Sequence[str], cwd: Path, env: Mapping[str, str] | None = None) -> float:
    """Wall seconds of one command; raises RuntimeError with its last words when it fails."""
    usual = {name: value for name, value in os.environ.items() if name not in UNUSUAL}
    began = time.perf_counter()
    done = subprocess.run(argv, cwd=cwd, env={**usual, **(env or {})}, capture_output=True, text=True, check=False)
    took = time.perf_counter() - began
    if done.returncode != 0:
        raise RuntimeError(f"{argv[0]} exited {done.returncode}: {(done.stderr or done.stdout)[-800:]}")
    return took


def in_turns(what: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The median seconds of each, measured in turns so that a busy neighbour meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in what}
    for _ in range(rounds):
        for name, measure in what.items():
            times[name].append(measure())
    return {name: statistics.median(values) for name, values in times.items()}


def shim(where: Path) -> Path:
    """The compiled shim; needs a C compiler."""
    source, library = where / "shim.c", where / "shim.so"
    source.write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"], check=True)
    return library


def peer(name: str, program: str = "") -> Path:
    """The executable of a peer from PyPI, by default of its own name, in an environment of its own under build/."""
    env, program = ROOT / "build" / f"peer-{name}", program or name
    if not (env / "bin" / program).exists():
        subprocess.run([sys.executable, "-m", "venv", str(env)], check=True)
        subprocess.run([str(env / "bin" / "pip"), "install", "--quiet", name], check=True)
    return env / "bin" / program


def row(name: str, value: str, beside: str = "") -> None:
    """One line of the result."""
    print(f"  {name:<44}{value:>16}   {beside}", flush=True)
