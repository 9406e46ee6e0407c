"""Desks, where controllers run, and the one network that joins them with machines. Nothing of it is in the host's own network."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from testbed.base import BedError, call

NET, NET6 = "10.77.0", "fd77::"
BRIDGE = "bridge"
RELAY = Path(__file__).with_name("relay.py")
WAIT_S = 5.0


@dataclass(frozen=True)
class Address:
    """Where something is in the network; `number` is 1 to 254 and its own."""

    number: int

    @property
    def ip(self) -> str:
        return f"{NET}.{self.number}"

    @property
    def ip6(self) -> str:
        return f"{NET6}{self.number:x}"

    @property
    def mac(self) -> str:
        """Fixed, so that neighbours can be told of each other for good."""
        return f"02:7b:0a:4d:00:{self.number:02x}"


class Desk:
    """A host of controllers: a name and an address of its own, and this host's files."""

    def __init__(self, name: str, address: Address) -> None:
        self.name = name
        self.address = address
        script = 'hostname "$0" && echo there && exec sleep infinity'
        words = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--uts", "/bin/sh", "-c", script, name]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd="/")
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "there\n":
            raise BedError(f"there is no network namespace for {name}")
        self.do("ip", "link", "set", "lo", "up")

    @property
    def pid(self) -> int:
        """The process that keeps the namespaces."""
        return self._process.pid

    def words(self, *command: str) -> list[str]:
        """A command as it is run at this desk."""
        return ["nsenter", "--target", str(self.pid), "--net", "--uts", "--", *command]

    def do(self, *command: str) -> str:
        """Run a command at this desk. Raises BedError."""
        return call(*self.words(*command))

    def take(self, device: str) -> None:
        """Give a device of this desk the desk's addresses."""
        self.do("ip", "addr", "add", f"{self.address.ip}/24", "dev", device)
        self.do("ip", "addr", "add", f"{self.address.ip6}/64", "dev", device, "nodad")
        self.do("ip", "link", "set", device, "up")

    def close(self) -> None:
        """The desk is gone; what still runs there goes on without a network."""
        self._process.kill()
        self._process.communicate()


class Network:
    """A bridge at the first desk. Every machine has one link into it, which can be cut and slowed."""

    def __init__(self) -> None:
        self.desk = Desk("laptop", Address(1))
        self.desk.do("ip", "link", "add", BRIDGE, "address", self.desk.address.mac, "type", "bridge")
        self.desk.take(BRIDGE)
        self._others: list[Desk] = []
        self._known: list[Address] = []

    def second_desk(self, name: str, address: Address) -> Desk:
        """Another host of controllers in the same network."""
        desk = Desk(name, address)
        self._others.append(desk)
        port = f"desk{address.number}"
        peer = ("type", "veth", "peer", "name", "eth0", "address", address.mac, "netns", str(desk.pid))
        self.desk.do("ip", "link", "add", port, *peer)
        self.desk.do("ip", "link", "set", port, "master", BRIDGE, "up")
        desk.take("eth0")
        for known in self._known:
            _tell(desk, "eth0", known)
        return desk

    def expect(self, address: Address) -> None:
        """Tell all desks of a machine for good: one that is off or cut is silence, and not "no route to host"."""
        self._known.append(address)
        _tell(self.desk, BRIDGE, address)
        for desk in self._others:
            _tell(desk, "eth0", address)

    def close(self) -> None:
        """Everything of it is gone."""
        for desk in (*self._others, self.desk):
            desk.close()


def _tell(desk: Desk, device: str, address: Address) -> None:
    for ip in (address.ip, address.ip6):
        desk.do("ip", "neigh", "replace", ip, "lladdr", address.mac, "dev", device, "nud", "permanent")


class Link:
    """The cable of one machine, seen from the bridge; it outlives reboots."""

    def __init__(self, desk: Desk, address: Address) -> None:
        self._desk = desk
        self._address = address
        self._port = f"port{address.number}"
        self._tap = f"tap{address.number}"
        self._relay: subprocess.Popen[bytes] | None = None
        self._cut = ""

    def plug(self, pid: int) -> None:
        """Give the namespace of a process its eth0."""
        self.unplug()
        peer = ("type", "veth", "peer", "name", "eth0", "address", self._address.mac, "netns", str(pid))
        self._desk.do("ip", "link", "add", self._port, *peer)
        self._settle()

    def unplug(self) -> None:
        """Pull the cable for good: no farewell leaves the machine."""
        if self._has(self._port):
            self._desk.do("ip", "link", "del", self._port)

    def cut(self, carrier: bool = True) -> None:
        """Packets vanish both ways and nothing is refused; without `carrier` the machine sees that its cable is out."""
        self._cut = "silent" if carrier else "out"
        self._settle()

    def heal(self) -> None:
        """As if it had never been cut."""
        self._cut = ""
        self._settle()

    def slow(self, rtt_ms: float, rate_mbit: float = 0.0, loss_percent: float = 0.0) -> None:
        """Delay, rate (0: no limit) and losses between this machine and everything; open connections live on."""
        self.fast()
        words = (sys.executable, str(RELAY), self._port, self._tap, str(rtt_ms), str(rate_mbit), str(loss_percent))
        self._relay = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *self._desk.words(*words)], stdin=subprocess.DEVNULL, cwd="/")
        limit = time.monotonic() + WAIT_S
        while not self._has(self._tap):
            if time.monotonic() > limit or self._relay.poll() is not None:
                raise BedError(f"the relay of {self._port} did not start")
            time.sleep(0.02)
        self._settle()

    def fast(self) -> None:
        """No delay any more."""
        if self._relay is not None:
            self._relay.kill()
            self._relay.wait()
            self._relay = None
            self._settle()

    def _has(self, device: str) -> bool:
        names = [line.split()[0].partition("@")[0] for line in self._desk.do("ip", "-brief", "link").splitlines()]
        return device in names

    def _settle(self) -> None:
        """Make the devices what is wanted: cut, slowed, or joined."""
        if not self._has(self._port):
            return
        joined = ("nomaster",) if self._cut else ("master", BRIDGE)
        if self._cut == "out":
            self._desk.do("ip", "link", "set", self._port, "nomaster", "down")
        elif self._relay is None:
            self._desk.do("ip", "link", "set", self._port, *joined, "up")
        else:
            self._desk.do("ip", "link", "set", self._port, "nomaster", "up")
            self._desk.do("ip", "link", "set", self._tap, *joined, "up")
