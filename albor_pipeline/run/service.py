"""Service: a systemd unit that continues a pipeline after a boot, by the same `apply` that a user would type.

Attempts are in scopes of their own, and stopping the unit ends the controller only. An apply that ends because a machine does not
answer (exit 6), or that is killed, is tried again after a minute; one that needs a person is not.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from albor_pipeline.errors import AlborError
from albor_pipeline.model.manifest import Manifest

UNIT = """\
# Written by the verb install-service; its --remove takes it away.
[Unit]
Description=albor-pipeline apply of {name}
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
WorkingDirectory={folder}
ExecStart={command}
KillMode=process
SuccessExitStatus=130
Restart=on-failure
RestartSec=60
RestartPreventExitStatus=1 2 3 5 64 70

[Install]
WantedBy={wanted_by}
"""


@dataclass(frozen=True)
class Service:
    """One unit: of the system for root, else of the user."""

    name: str
    path: Path
    text: str
    user: bool

    def install(self) -> None:
        """Write the unit and have it started at every boot. Raises AlborError."""
        _need_systemd()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(self.text, encoding="utf-8")
        except OSError as error:
            raise AlborError.of("service", f"{self.path} cannot be written: {error.strerror}") from None
        self._systemctl("daemon-reload")
        self._systemctl("enable", self.name)

    def remove(self) -> None:
        """Take it away; what runs goes on. Raises AlborError."""
        _need_systemd()
        if not self.path.exists():
            raise AlborError.of("service", f"there is no {self.path}")
        self._systemctl("disable", self.name)
        self.path.unlink()
        self._systemctl("daemon-reload")

    @property
    def control(self) -> str:
        """The command that speaks to the manager of this unit."""
        return "systemctl --user" if self.user else "systemctl"

    def _systemctl(self, *words: str) -> None:
        command = [*self.control.split(), *words]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines()[-3:]
            raise AlborError.of("service", f"`{' '.join(command)}` failed with exit {done.returncode}", *said)


def service_of(manifest: Manifest, manifest_path: Path, words: Sequence[str]) -> Service:
    """The unit of a manifest; `words` are further arguments of apply. $SYSTEMD_UNIT_PATH names another folder, as for systemd."""
    user = os.geteuid() != 0
    name = f"albor-{re.sub(r'[^A-Za-z0-9_.-]', '-', manifest.pipeline)}.service"
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path("~/.config").expanduser(), "systemd", "user")
    given = os.environ.get("SYSTEMD_UNIT_PATH", "").partition(":")[0]
    folder = Path(given) if given else home if user else Path("/etc/systemd/system")
    command = [sys.executable, "-m", "albor_pipeline", "apply", str(manifest_path.resolve()), *words]
    text = UNIT.format(
        name=_escaped(manifest.pipeline), folder=_escaped(str(Path(manifest.root).resolve())),
        command=" ".join(map(_quoted, command)), wanted_by="default.target" if user else "multi-user.target",
    )  # fmt: skip
    return Service(name, folder / name, text, user)


def _need_systemd() -> None:
    if shutil.which("systemctl") is None:
        way = "`install-service --print` shows the unit; elsewhere let cron start the same command: @reboot"
        raise AlborError.of("service", "there is no systemd on this machine", way)


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """One argument as systemd.service(5) takes it."""
    escaped = _escaped(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return escaped if re.fullmatch(r"[A-Za-z0-9_./:=@%+-]+", escaped) else f'"{escaped}"'
