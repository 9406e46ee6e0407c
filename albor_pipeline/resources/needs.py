"""Needs: what a script needs of its machine, and the words that end it where that is not there. Knows no kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from albor_pipeline.resources.base import Instance, probe_error
from albor_pipeline.resources.shell import Script, fixed

SBIN = Script('PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" LC_ALL=C; export PATH LC_ALL')
_ROOT = """
[ "$(id -u)" = 0 ] || { echo "root's rights are needed on $1: log in as root there, or give the resource 'sudo: true'" >&2; exit 1; }
"""
_PROGRAM = """
command -v "$1" >/dev/null || { echo "$1 is not installed on $2: add a package resource for it ($3)" >&2; exit 1; }
"""


def root(one: Instance) -> Script:
    """Ends the script where it does not run as root; programs of administrators are found, and speak English."""
    return Script(f"{SBIN}\n{fixed(_ROOT, one.machine.name)}")


def program(name: str, package: str, one: Instance) -> Script:
    """Ends the script where there is no such program, naming the package that has it."""
    return fixed(_PROGRAM, name, one.machine.name, package)


def unseen(result: Mapping[str, Any]) -> str:
    """The sentence of a script that looked and could not tell."""
    if "exit" not in result:
        return probe_error(result)
    lines = str(result.get("stderr") or "").strip().splitlines()
    how = "took too long" if result.get("timed_out") else f"exit {result['exit']}"
    return f"it could not be looked at: {lines[-1] if lines else how}"
