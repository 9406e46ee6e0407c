"""A clock that is wrong for the agents of one machine and what they start; the machine's own clock is the host's. Waits for nothing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from testbed.base import BedError
from testbed.machine import Machine

SOURCE = Path(__file__).with_name("wrong_clock.c")
PYTHON = """#!/bin/sh
LD_PRELOAD=/usr/local/lib/wrong_clock.so WRONG_S=%d exec /usr/bin/python3 "$@"
"""


def compiled(folder: Path) -> Path:
    """What makes a clock wrong, made once; raises BedError where there is no C compiler."""
    made = folder / "wrong_clock.so"
    compiler = shutil.which("cc")
    if compiler is None:
        raise BedError("a wrong clock needs a C compiler: apt-get install gcc libc6-dev")
    if not made.exists():
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", str(made), str(SOURCE), "-ldl"], check=True)
    return made


def put_ahead(machine: Machine, library: Path, seconds: int) -> None:
    """From now on new agents see a clock that is so many seconds ahead; 0: the right one."""
    root = machine.home().parent
    there = root / "usr/local/lib" / library.name
    if not there.exists():  # one that is loaded may not be written to
        shutil.copy(library, there)
    python = root / "usr/local/bin/python3"
    python.write_text(PYTHON % seconds)
    python.chmod(0o755)


def put_right(machine: Machine) -> None:
    """As if it had never been wrong."""
    (machine.home().parent / "usr/local/bin/python3").unlink(missing_ok=True)
