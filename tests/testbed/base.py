"""The file system that every machine starts from: Debian, made once from this host's own package sources, and kept. Starts nothing."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

# Read when this is imported: tests give the program under test a cache of its own, and this one shall outlive them.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "albor-testbed"
VERSION = "1"
PACKAGES = (
    "systemd", "systemd-sysv", "dbus", "dbus-user-session", "libpam-systemd", "openssh-server", "iproute2", "procps", "python3",
    "python3-venv", "sudo", "cron", "nftables", "ufw",
)  # fmt: skip
PROGRAMS = {"mmdebstrap": "mmdebstrap", "ip": "iproute2", "ssh-keygen": "openssh-client", "nsenter": "util-linux", "setpriv": "util-linux"}
# Units that need what no container has, and timers that would work while a test measures.
MASKED = (
    "console-getty.service", "getty@.service", "getty-static.service", "systemd-udevd.service", "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount", "dev-hugepages.mount", "sys-kernel-config.mount", "systemd-modules-load.service",
    "systemd-remount-fs.service", "fstrim.timer", "e2scrub_all.timer", "apt-daily.timer", "apt-daily-upgrade.timer",
    "systemd-networkd-wait-online.service", "sys-fs-fuse-connections.mount", "proc-sys-fs-binfmt_misc.automount",
)  # fmt: skip
SSHD = "PermitRootLogin prohibit-password\nPasswordAuthentication no\nUseDNS no\nMaxStartups 100\n"
USER = "ann"
APT_SAYS = re.compile(r'^Acquire::(?:Check-\S+|https?::\S+|Retries) "[^"]*";$', re.MULTILINE)
NAMESPACES = ("unshare", "--pid", "--fork", "--mount", "--uts", "--ipc", "--net", "--cgroup", "true")


class BedError(Exception):
    """The test bed cannot be made or used; the text says why."""


def call(*words: str | Path, stdin: str | None = None, env: dict[str, str] | None = None) -> str:
    """What a program writes to stdout. Raises BedError with its last words."""
    command = [str(word) for word in words]
    done = subprocess.run(command, input=stdin, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BedError(f"{shlex.join(command)}: exit {done.returncode}: {(done.stderr or done.stdout).strip()[-800:]}")
    return done.stdout


def obstacle() -> str:
    """Why there can be no machines here, empty when there can."""
    if os.geteuid() != 0:
        return "machines need root, for namespaces, mounts and links"
    lacking = sorted({package for program, package in PROGRAMS.items() if shutil.which(program) is None})
    if lacking:
        return f"machines need Debian's {', '.join(lacking)}: make tools"
    if not sources():
        return f"no package source of this host names Debian {suite()}"
    groups = cgroup_roots()
    if not groups or not all(os.access(group, os.W_OK) for group in groups):
        return "machines need a cgroup2 file system that can be written to"
    try:
        call(*NAMESPACES)
    except BedError as error:
        return f"machines need namespaces: {error}"
    return ""


def cgroup_roots() -> list[Path]:
    """Where control groups are: the first is cgroup2's, a second is that of memory where the old kind has it; empty without cgroup2."""
    found: dict[str, Path] = {}
    for line in Path("/proc/mounts").read_text().splitlines():
        _device, where, kind, options, *_rest = line.split()
        if kind == "cgroup2" or (kind == "cgroup" and "memory" in options.split(",")):
            found.setdefault(kind, Path(where))
    return [found[kind] for kind in ("cgroup2", "cgroup") if kind in found] if "cgroup2" in found else []


def suite() -> str:
    """The name of this host's Debian release."""
    named = re.search(r"^VERSION_CODENAME=(\S+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    return named[1] if named else "stable"


def sources() -> list[Path]:
    """The files of this host's package sources that hold Debian itself."""
    folder = Path("/etc/apt/sources.list.d")
    files = [Path("/etc/apt/sources.list"), *sorted(folder.glob("*.list")), *sorted(folder.glob("*.sources"))]
    texts = {path: path.read_text().lower() for path in files if path.exists()}
    return [path for path, text in texts.items() if suite() in text and "debian" in text]


def build() -> Path:
    """The folder with the file system, made when it is not there; about a minute, once for each list of packages. Raises BedError."""
    texts = [path.read_text() for path in sources()]
    key = hashlib.sha256("\n".join([VERSION, suite(), *PACKAGES, *MASKED, SSHD, *texts]).encode()).hexdigest()[:12]
    CACHE.mkdir(parents=True, exist_ok=True)
    base = CACHE / key
    with (CACHE / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not base.is_dir():
            building = CACHE / "building"
            shutil.rmtree(building, ignore_errors=True)
            _bootstrap(building, sources())
            _settle(building)
            building.rename(base)
    return base


def _bootstrap(folder: Path, files: Sequence[Path]) -> None:
    """Debian's own packages; how the host's apt reaches them counts here as well."""
    told = [f"--aptopt={line}" for line in APT_SAYS.findall(call("apt-config", "dump"))]
    words = ["--variant=minbase", "--mode=root", "--format=directory", "--quiet", f"--include={','.join(PACKAGES)}", *told]
    call("mmdebstrap", *words, suite(), folder, *files, env={**os.environ, "LANG": "C.UTF-8"})


def _settle(folder: Path) -> None:
    """Take away what must differ between machines, and what needs hardware."""
    for path in [*folder.glob("etc/ssh/ssh_host_*"), folder / "var/lib/dbus/machine-id", folder / "etc/resolv.conf"]:
        path.unlink(missing_ok=True)
    (folder / "etc/machine-id").write_text("")
    (folder / "etc/resolv.conf").write_text("")
    units = folder / "etc/systemd/system"
    units.mkdir(parents=True, exist_ok=True)
    for name in MASKED:
        (units / name).symlink_to("/dev/null")
    (folder / "etc/ssh/sshd_config.d/machine.conf").write_text(SSHD)
    call("chroot", folder, "useradd", "--create-home", "--shell", "/bin/bash", USER)


def main() -> None:
    """Make it now, or say why not; never an error, since the tests that need it are skipped with the reason."""
    try:
        print(obstacle() or build())
    except BedError as error:
        print(error)


if __name__ == "__main__":
    main()
