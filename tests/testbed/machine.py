"""One machine: its disk, its power, and what can befall it. Knows no network but its own link, and nothing of the project."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from testbed.base import USER, BedError, call, cgroup_roots
from testbed.network import Address, Desk, Link

BOOT = Path(__file__).with_name("boot.sh")
BOOT_S = 60.0
END_S = 10.0
FREEZE_S = 5.0
PAUSE_S = 0.02
# Capabilities that no namespace keeps apart: with them, root of a machine could set this host's clock or load modules.
LOSE = ",".join(f"-{name}" for name in ("sys_time", "sys_module", "sys_rawio", "mac_admin", "mac_override"))
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HOMES = {"root": Path("root"), USER: Path("home", USER)}
NO_LIMIT = "-1"
LENT = "/opt/lent"


class Machine:
    """A Debian machine with systemd and sshd; its disk outlives reboots until the test bed is taken down."""

    def __init__(self, name: str, address: Address, folder: Path, base: Path, desk: Desk, lent: Path | None = None) -> None:
        self.name = name
        self.address = address
        self.link = Link(desk, address)
        self._desk = desk
        self._folder = folder / name
        self._base = base
        self._lent = lent
        self._groups = [root / f"albor-testbed-{os.getpid()}" / name for root in cgroup_roots()]
        self._process: subprocess.Popen[str] | None = None
        self._neighbours: Sequence[Address] = ()
        self.overlay = _overlay_works(folder, base)
        self.init = 0

    def prepare(self, key: str, names: dict[str, Address], sshd: str) -> None:
        """Make its disk, with a host key and an id of its own.

        `key` lets both users in, `names` go into its hosts file, `sshd` into its server's settings.
        """
        self._neighbours = [address for name, address in names.items() if name != self.name]
        self._folder.mkdir(parents=True)
        upper = self._folder / "upper"
        if self.overlay:
            (self._folder / "work").mkdir()
            upper.mkdir()
        else:
            call("cp", "-a", "--reflink=auto", self._base, upper)
        host_key = self._folder / "host_key"
        call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.name, "-f", host_key)
        hosts = "127.0.0.1 localhost\n" + "".join(f"{address.ip} {name}\n" for name, address in names.items())
        self._put("etc/hostname", f"{self.name}\n")
        self._put("etc/hosts", hosts)
        self._put("etc/machine-id", os.urandom(16).hex() + "\n", 0o444)
        self._put("etc/ssh/ssh_host_ed25519_key", host_key.read_text(), 0o600)
        self._put("etc/ssh/ssh_host_ed25519_key.pub", Path(f"{host_key}.pub").read_text())
        self._put("etc/ssh/sshd_config.d/bed.conf", sshd)
        for home in HOMES.values():
            self._put(home / ".ssh/authorized_keys", f"{key}\n", 0o600)

    def _put(self, path: str | Path, text: str, mode: int = 0o644) -> None:
        """A file on its disk while it is off; folders are those of the base, with their owners, and a new one is its parent's."""
        target = self._folder / "upper" / path
        for up in reversed(list(Path(path).parents)):
            folder = self._folder / "upper" / up
            origin = self._base / up if (self._base / up).exists() else folder.parent
            if not folder.exists():
                folder.mkdir(mode=0o700 if up.name == ".ssh" else 0o755)
                os.chown(folder, origin.stat().st_uid, origin.stat().st_gid)
                if origin != folder.parent:
                    folder.chmod(origin.stat().st_mode & 0o7777)
        target.unlink(missing_ok=True)
        target.write_text(text)
        target.chmod(mode)
        os.chown(target, target.parent.stat().st_uid, target.parent.stat().st_gid)

    @property
    def host_key(self) -> str:
        """Type and body of its public host key, as a file of known hosts has them."""
        return " ".join(Path(f"{self._folder / 'host_key'}.pub").read_text().split()[:2])

    def home(self, user: str = "root") -> Path:
        """A home folder as it is seen from here, while the machine is on."""
        return Path(f"/proc/{self.init}/root") / HOMES[user]

    @property
    def is_on(self) -> bool:
        """Whether it has power."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Switch it on and do not wait. Raises BedError."""
        for group in self._groups:
            group.mkdir(parents=True, exist_ok=True)
        join = 'for group in $GROUPS_OF_IT; do echo 0 >"$group/cgroup.procs"; done; exec "$@"'
        spaces = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--uts", "--ipc", "--net", "--cgroup", *_clock()]
        words = ["setpriv", "--pdeathsig", "KILL", "/bin/sh", "-c", join, "sh", *spaces, "/bin/sh", str(BOOT)]
        near = " ".join(f"{ip}={address.mac}" for address in self._neighbours for ip in (address.ip, address.ip6))
        told = {
            "NAME": self.name, "BASE": str(self._base), "FOLDER": str(self._folder), "OVERLAY": str(int(self.overlay)),
            "IP": self.address.ip, "IP6": self.address.ip6, "NEIGHBOURS": near, "CAPABILITIES": LOSE,
            "LENT": str(self._lent or ""), "LENT_AT": LENT.lstrip("/"), "GROUPS_OF_IT": " ".join(map(str, self._groups)), "PATH": PATH,
        }  # fmt: skip
        with (self._folder / "console").open("a") as console:
            self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=console, stderr=console, text=True, env=told, cwd="/")
        self.init = self._first_child()
        self.link.plug(self.init)
        assert self._process.stdin is not None
        self._process.stdin.write("eth0\n")
        self._process.stdin.close()

    def _first_child(self) -> int:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        limit = time.monotonic() + END_S
        while time.monotonic() < limit and self._process.poll() is None:
            found = children.read_text().split()
            if found:
                return int(found[0])
            time.sleep(PAUSE_S)
        raise BedError(f"{self.name} did not start: {self.console()}")

    def console(self) -> str:
        """The end of what it wrote while it booted."""
        return (self._folder / "console").read_text()[-800:]

    def wait(self) -> None:
        """Until its sshd answers over the network. Raises BedError."""
        assert self._process is not None
        script = f'exec 3<>/dev/tcp/{self.address.ip}/22 && read -r -t 2 -N 4 said <&3 && [ "$said" = SSH- ]'
        limit = time.monotonic() + BOOT_S
        while subprocess.run(self._desk.words("timeout", "3", "bash", "-c", script), capture_output=True, check=False).returncode != 0:
            if time.monotonic() > limit or self._process.poll() is not None:
                raise BedError(f"the sshd of {self.name} does not answer: {self.console()}")
            time.sleep(0.1)

    def on(self) -> None:
        """Switch it on and wait until it can be reached."""
        self.start()
        self.wait()

    def off(self) -> None:
        """Power cut: nothing is said to anybody, and all of its processes are gone; /run is empty afterwards, the disk is kept."""
        if self._process is None:
            return
        self.link.unplug()
        with suppress(ProcessLookupError):
            os.kill(self.init, 9)
        self._process.wait(END_S)
        self._process = None
        limit = time.monotonic() + END_S
        while "populated 1" in (self._groups[0] / "cgroup.events").read_text():
            if time.monotonic() > limit:
                raise BedError(f"processes of {self.name} do not end")
            time.sleep(PAUSE_S)

    def reboot(self) -> None:
        """Power cut, then on again: another boot id, uptime from zero."""
        self.off()
        self.on()

    def freeze(self) -> None:
        """Every process stops; the kernel still answers: a machine that hangs."""
        self._set_frozen(True)

    def thaw(self) -> None:
        """All of them go on."""
        self._set_frozen(False)

    def _set_frozen(self, wanted: bool) -> None:
        group = self._groups[0]
        (group / "cgroup.freeze").write_text(str(int(wanted)))
        limit = time.monotonic() + FREEZE_S
        while f"frozen {int(wanted)}" not in (group / "cgroup.events").read_text():
            if time.monotonic() > limit:
                raise BedError(f"{self.name} did not {'freeze' if wanted else 'thaw'}")
            time.sleep(PAUSE_S)

    def limit_memory(self, size_bytes: int | None) -> None:
        """So much memory for all of its processes, from now on; None: as much as this host has. Raises BedError."""
        for name, without in (("memory.limit_in_bytes", NO_LIMIT), ("memory.max", "max")):
            for group in self._groups:
                if (group / name).exists():
                    (group / name).write_text(without if size_bytes is None else str(size_bytes))
                    return
        raise BedError("no control group here limits memory")

    def drop_sessions(self) -> None:
        """kill -9 of every sshd that serves a session; the listener lives, and so does what runs in the sessions."""
        self.do("pgrep --list-full --exact 'sshd|sshd-session' | grep -v listener | cut -d' ' -f1 | xargs -r kill -9 2>/dev/null || true")

    def words(self, script: str, user: str = "root") -> list[str]:
        """A script as a user of the machine runs it, without the network."""
        enter = ["nsenter", "--target", str(self.init), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"]
        enter += ["-T"] if Path("/proc/self/ns/time").exists() else []
        lose = ["setpriv", f"--bounding-set={LOSE}", f"--inh-caps={LOSE}"]
        who = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user != "root" else []
        env = ["env", "-i", f"HOME=/{HOMES[user]}", f"PATH={PATH}", "LANG=C.UTF-8"]
        return [*enter, "--", *lose, *env, *who, "/bin/bash", "-c", script]

    def do(self, script: str, user: str = "root") -> str:
        """What a script writes to stdout. Raises BedError when it fails."""
        return call(*self.words(script, user))

    def close(self) -> None:
        """Off for good; its disk and control groups are removed."""
        if self._process is not None:
            self.thaw()
        self.link.fast()
        self.off()
        for group in self._groups:
            remove_group(group)
            with suppress(OSError):
                group.parent.rmdir()
        shutil.rmtree(self._folder, ignore_errors=True)


def remove_group(group: Path) -> None:
    """Remove a control group without processes, and those below it."""
    for folder, _below, _files in os.walk(group, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()


def _clock() -> list[str]:
    """A time namespace in which the machine has just been switched on."""
    if not Path("/proc/self/ns/time").exists():
        return []
    clocks = {"--boottime": time.CLOCK_BOOTTIME, "--monotonic": time.CLOCK_MONOTONIC}
    return ["--time", *(word for name, clock in clocks.items() for word in (name, str(-int(time.clock_gettime(clock)))))]


def _overlay_works(where: Path, base: Path) -> bool:
    """Whether a disk in this folder can lie over the base; if not, it is a copy of it."""
    with tempfile.TemporaryDirectory(dir=where) as folder:
        for name in ("upper", "work", "root"):
            Path(folder, name).mkdir()
        script = 'cd "$1" && mount -t overlay overlay -o "lowerdir=$2,upperdir=upper,workdir=work" root && : >root/etc/probe'
        words = ["unshare", "--mount", "/bin/sh", "-c", script, "sh", folder, str(base)]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
