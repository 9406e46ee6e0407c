"""The test bed: two machines and a desk in one network, with keys and an SSH configuration. Knows nothing of the project."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from testbed import base
from testbed.base import call, cgroup_roots
from testbed.machine import Machine, remove_group
from testbed.network import Address, Desk, Network

NAMES = ("lambda", "intel")
FIRST_NUMBER = 11
SECOND_DESK = Address(2)


class Bed:
    """Machines by name, switched on together; the folder is emptied at the end.

    `lent` is a folder of this host that all of them see as LENT, for reading only: what is too much to copy or to install.
    """

    def __init__(self, folder: Path, names: Sequence[str] = NAMES, sshd: str = "", lent: Path | None = None) -> None:
        self.folder = folder
        self._lent = lent
        self.machines: dict[str, Machine] = {}
        self._names = names
        self._sshd = sshd
        self._tower: Desk | None = None

    def __enter__(self) -> Bed:
        """Bring everything up. Raises BedError."""
        sweep()
        root = base.build()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.network = Network()
        try:
            self._bring_up(root)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _bring_up(self, root: Path) -> None:
        call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test bed", "-f", self.key)
        addresses = {name: Address(FIRST_NUMBER + number) for number, name in enumerate(self._names)}
        near = {"laptop": self.desk.address, "tower": SECOND_DESK, **addresses}
        for name, address in addresses.items():
            machine = self.machines[name] = Machine(name, address, self.folder, root, self.desk, self._lent)
            machine.prepare(Path(f"{self.key}.pub").read_text().strip(), near, self._sshd)
            self.network.expect(address)
            machine.start()
        for machine in self.machines.values():
            machine.wait()
        self.known_hosts.write_text("".join(f"{name} {machine.host_key}\n" for name, machine in self.machines.items()))
        self.config.write_text(self.ssh_config())

    @property
    def desk(self) -> Desk:
        """Where controllers run."""
        return self.network.desk

    @property
    def tower(self) -> Desk:
        """A second host of controllers."""
        if self._tower is None:
            self._tower = self.network.second_desk("tower", SECOND_DESK)
        return self._tower

    @property
    def key(self) -> Path:
        """The private key that every machine lets in."""
        return self.folder / "key"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    @property
    def config(self) -> Path:
        return self.folder / "ssh_config"

    def ssh_config(
        self, *, key: bool = True, known_hosts: Path | None = None, v6: bool = False, extra: dict[str, str] | None = None
    ) -> str:
        """A configuration that reaches all machines; `extra` has further lines by machine."""
        lines = []
        for name, machine in self.machines.items():
            address = machine.address.ip6 if v6 else machine.address.ip
            lines += [f"Host {name}", f"  HostName {address}", f"  HostKeyAlias {name}", (extra or {}).get(name, "")]
        lines += ["Host *", f"  UserKnownHostsFile {known_hosts or self.known_hosts}", "  User root", "  ConnectTimeout 3"]
        lines += [f"  IdentityFile {self.key}", "  IdentitiesOnly yes"] if key else []
        return "\n".join([*lines, ""])

    def repair(self) -> None:
        """After a test: every machine on, reachable, fast, without a limit and without a login."""
        for machine in self.machines.values():
            machine.link.fast()
            machine.link.heal()
            if not machine.is_on:
                machine.on()
            machine.thaw()
            machine.limit_memory(None)
            machine.drop_sessions()

    def close(self) -> None:
        """Take everything down."""
        for machine in self.machines.values():
            machine.close()
        self.network.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def sweep() -> None:
    """Remove the control groups of a test bed whose process was killed; all else of it went with that process."""
    for root in cgroup_roots():
        for folder in root.glob("albor-testbed-*"):
            if not Path("/proc", folder.name.rpartition("-")[2]).exists():
                remove_group(folder)
