"""The words of a shell on a machine: the system's ssh with what the manifest says of the way. Opens nothing itself."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from albor_pipeline.model.manifest import Machine
from albor_pipeline.transport.engine import enter

SHELL = '"${SHELL:-/bin/sh}" -l'


def words(machine: Machine, root: str, folder: str, command: Sequence[str], *, terminal: bool) -> list[str]:
    """The command line of a login in the machine's folder, which is made nowhere; `command` empty means a login shell."""
    script = f"cd {_place(folder)} && exec {shlex.join(command) if command else SHELL}"
    if machine.is_local:
        return ["/bin/sh", "-c", script]
    if machine.container is not None:
        return [*enter(machine.container, machine.user, terminal=terminal), "/bin/sh", "-c", script]
    config = os.environ.get("ALBOR_SSH_CONFIG")
    ways: dict[str, str | int | None] = {"-l": machine.user, "-p": machine.port, "-J": machine.jump, "-F": config}
    options = [word for option, value in ways.items() if value is not None for word in (option, str(value))]
    if machine.ssh_key is not None:
        options += ["-i", str(Path(root, Path(machine.ssh_key).expanduser())), "-o", "IdentitiesOnly=yes"]
    if machine.known_hosts is not None:
        options += ["-o", f"UserKnownHostsFile={Path(root, Path(machine.known_hosts).expanduser())}"]
    return ["ssh", "-o", "StrictHostKeyChecking=yes", *(["-t"] if terminal else []), *options, "--", machine.addr, script]


def _place(folder: str) -> str:
    """A folder as the shell there reads it: `~` is the home folder of that machine."""
    if folder == "~" or folder.startswith("~/"):
        return '"$HOME"' + shlex.quote(folder[1:]) if folder != "~" else '"$HOME"'
    return shlex.quote(folder)
