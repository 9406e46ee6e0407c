"""Machines for tests: each an SSH server of its own on this one, with its own port, keys and home folder. Knows nothing of the project."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

LIMIT_S = 20.0
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"
PYTHON = Path(sys.executable).resolve()  # without the libraries of the environment that the tests run in


def programs() -> tuple[str, str]:
    """sshd and ssh-keygen; the test is skipped where they are not installed."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    found = shutil.which("sshd", path=path), shutil.which("ssh-keygen", path=path)
    if not all(found):
        pytest.skip("sshd is not installed: apt-get install openssh-server")
    return found  # type: ignore[return-value]


@dataclass(frozen=True)
class Key:
    """A key pair on disk."""

    path: Path

    @classmethod
    def make(cls, path: Path) -> Key:
        """A new ed25519 key without a passphrase."""
        subprocess.run([programs()[1], "-q", "-t", "ed25519", "-N", "", "-C", "a test", "-f", str(path)], check=True)
        return cls(path)

    @property
    def public(self) -> str:
        """Type and body, as a file of known hosts has them."""
        return " ".join(Path(f"{self.path}.pub").read_text().split()[:2])

    @property
    def fingerprint(self) -> str:
        """SHA256:... as ssh-keygen says it."""
        said = subprocess.run([programs()[1], "-lf", f"{self.path}.pub"], check=True, capture_output=True, text=True)
        return said.stdout.split()[1]


class Box:
    """One machine; `home` is the home folder that sessions on it see, `machine_id` what tells it from others, ours where none is given."""

    def __init__(self, folder: Path, name: str, user_key: Key, path: str | None = None, machine_id: str = "") -> None:
        self.name = name
        self.folder = folder / name
        self.home = self.folder / "home"
        self.home.mkdir(parents=True)
        self.host_key = Key.make(self.folder / "host_key")
        tools = self.folder / "bin"
        tools.mkdir()
        (tools / "python3").symlink_to(PYTHON)
        self.path = path or f"{tools}:{SYSTEM_PATH}"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = int(free.getsockname()[1])
        (self.folder / "authorized_keys").write_text(f"{user_key.public}\n")
        self._machine_id = machine_id
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def key_name(self) -> str:
        """What its host key is filed under."""
        return f"[127.0.0.1]:{self.port}"

    @property
    def known(self) -> str:
        """Its line in a file of known hosts."""
        return f"{self.key_name} {self.host_key.public}"

    def start(self) -> None:
        """Start the server and wait until it listens."""
        sshd, _keygen = programs()
        lines = {
            "Port": self.port, "ListenAddress": "127.0.0.1", "HostKey": self.host_key.path, "UsePAM": "no", "StrictModes": "no",
            "AuthorizedKeysFile": self.folder / "authorized_keys", "PasswordAuthentication": "no", "PidFile": self.folder / "pid",
            "KbdInteractiveAuthentication": "no", "PermitRootLogin": "yes", "MaxStartups": "100", "AllowTcpForwarding": "yes",
            "Subsystem": "sftp internal-sftp",
            "SetEnv": f"HOME={self.home} PATH={self.path} XDG_CACHE_HOME={self.home}/.cache ALBOR_TEST_SLOTS={self.home}/none",
        }  # fmt: skip
        config = self.folder / "sshd_config"
        config.write_text("".join(f"{key} {value}\n" for key, value in lines.items()))
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        command = [*self._apart(), sshd, "-D", "-e", "-f", str(config)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        limit = time.monotonic() + LIMIT_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None and time.monotonic() < limit, (self.folder / "log").read_text()
            time.sleep(0.02)

    def _apart(self) -> list[str]:
        """Words before a command that has an /etc/machine-id of its own; the test is skipped where that cannot be given."""
        if not self._machine_id:
            return []
        if os.geteuid() != 0 or not shutil.which("unshare") or not Path("/etc/machine-id").exists():
            pytest.skip("a machine with an id of its own takes root, unshare and an /etc/machine-id")
        given = self.folder / "machine-id"
        given.write_text(f"{self._machine_id}\n")
        return ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/machine-id && exec "$@"', str(given)]

    def sessions(self) -> list[int]:
        """The server's processes that serve connections."""
        assert self._process is not None
        return children(self._process.pid)

    def programs(self) -> list[int]:
        """What the sessions run, the first process of each."""
        found = self.sessions()
        for pid in found:
            found += children(pid) if "sshd" in comm(pid) else []
        return [pid for pid in found if "sshd" not in comm(pid)]

    def cut(self) -> None:
        """Kill every session at once, as `kill -9` of sshd's children does; what runs in them is left alone."""
        for pid in [below for session in self.sessions() for below in [session, *children(session)] if "sshd" in comm(below)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """No new connections, and no old ones."""
        if self._process is not None and self._process.poll() is None:
            self.cut()
            self._process.kill()
            self._process.wait()


def children(pid: int) -> list[int]:
    """The child processes of a process."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def comm(pid: int) -> str:
    """The name of a process, empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


class Network:
    """Machines by name, and the SSH configuration of the user who reaches them: nothing of the real user's is looked at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.key = Key.make(folder / "user_key")
        self.known_hosts = folder / "known_hosts"
        self.config = folder / "config"
        self.boxes: dict[str, Box] = {}
        self.extra: dict[str, str] = {}

    def add(self, name: str, *, path: str | None = None, known: bool = True, machine_id: str = "") -> Box:
        """A running machine whose host key is known, unless it shall not be."""
        box = self.boxes[name] = Box(self.folder, name, self.key, path, machine_id)
        box.start()
        if known:
            self.know(box.known)
        self.write()
        return box

    def know(self, line: str) -> None:
        """Accept a host key."""
        with self.known_hosts.open("a") as file:
            file.write(f"{line}\n")

    def write(self) -> None:
        """Write the configuration; `extra` holds further lines by machine."""
        lines = []
        for name, box in self.boxes.items():
            lines += [f"Host {name}", f"  HostName 127.0.0.1\n  Port {box.port}\n{self.extra.get(name, '')}"]
        common = f"Host *\n  IdentityFile {self.key.path}\n  IdentitiesOnly yes\n  UserKnownHostsFile {self.known_hosts}\n"
        self.config.write_text("\n".join([*lines, common]))

    def close(self) -> None:
        """Stop every machine."""
        for box in self.boxes.values():
            box.stop()
