"""Artifacts from machine to machine, over loopback sshd, beside `scp` and `rsync`, in one run.

    python -m benchmarks.moves [--size-mib 1024] [--files 20000] [--rounds 3] [--first-way]

Two sshd play two machines. `here -> a` is beside `scp` and `rsync` from here; `a -> b` goes through this process as `scp -3` does, and
directly, as `ssh a scp` to b does, by a key that a has for this. Data goes over the system's `ssh`, with `--first-way` over paramiko, as
where there is no `ssh`. Our connections are open before, theirs are made by each command. One big file cold, cut at 60 % and gone on
with, unchanged; many small files cold, unchanged, one of them changed. A program that is not installed is named, and its rows are left
out; so are those of a size or a count of 0.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from albor_pipeline.agent import hashing, trees
from albor_pipeline.agent.layout import Layout
from albor_pipeline.model.manifest import Machine
from albor_pipeline.run.direct import Direct
from albor_pipeline.run.relay import Errand, Relay
from albor_pipeline.transport import openssh
from albor_pipeline.transport.client import AgentClient
from albor_pipeline.transport.local import LocalTransport, wait_readable
from albor_pipeline.transport.ssh import SshTransport
from benchmarks.common import ROOT, folder, in_turns, row, seconds

sys.path.insert(0, str(ROOT / "tests"))
from sshd import Network

CUT_AT = 0.6
AGE_S = 2.1  # files younger than that are read again, whatever is known of them
BESIDE = {"ours": "scp", "direct": "scp there"}
LIMITS = {"big": "limit 0.8", "again": "limit 41 %", "same": "limit 0.3 s", "small": "limit 1", "one": "limit 1"}


def carried(begin: Callable[[], Relay | Direct], ends: dict[str, AgentClient], until: float = 1.0) -> tuple[float, int]:
    """Seconds that a transfer takes, and the bytes that were sent; `until` ends it at that part of them."""
    began = time.perf_counter()
    relay = begin()
    while not relay.over:
        wait_readable(list(ends.values()), 0.5)
        for name, client in ends.items():
            for message in client.poll(0):
                if (name, message.id) in relay.ends:
                    relay.take(name, message)
        relay.pump()
        if until < 1 and relay.sent.size_bytes and relay.sent.passed_bytes >= until * relay.sent.size_bytes:
            break
    took = time.perf_counter() - began
    relay.stop()
    if relay.error is not None:
        raise RuntimeError(relay.error.message)
    return took, relay.sent.passed_bytes


class Bench:
    """The machines `here`, `a` and `b`, each with a folder and an agent."""

    def __init__(self, where: Path, network: Network, first_way: bool) -> None:
        self.network = network
        self.first_way = first_way
        self.folders = {name: where / name for name in ("here", "a", "b")}
        self.clients: dict[str, AgentClient] = {}
        self.firsts: dict[str, AgentClient] = {}
        self.tokens: dict[str, str] = {}
        for name in self.folders:
            self.folders[name].mkdir()
            self.connect(name)

    def connect(self, name: str) -> None:
        """Open the connection of a machine, again when it was cut."""
        for client in [clients[name] for clients in (self.clients, self.firsts) if name in clients]:
            client.close()
        place = str(self.folders[name])
        machine = self.machine(name)
        first = LocalTransport().connect(machine, place, "L") if name == "here" else SshTransport().connect(machine, place, "~/none", "L")
        token = first.request("lease", holder="a benchmark")["token"]
        self.tokens[name] = token
        self.firsts[name] = self.clients[name] = first
        if name != "here" and not self.first_way:
            self.clients[name] = openssh.start(machine, place, "~/none", "L")
            self.clients[name].request("lease", token=token)

    def machine(self, name: str) -> Machine:
        """One of the three as a manifest declares it."""
        return Machine(name, "localhost" if name == "here" else name, name, workdir=str(self.folders[name]))

    def move(self, source: str, target: str, path: str, until: float = 1.0, direct: bool = False) -> tuple[float, int]:
        """Seconds, and the bytes that were sent; `until` ends it at that part of them."""
        found = trees.read_tree(str(self.folders[source] / path), lambda where, _info: hashing.digest_file(where))
        assert found is not None
        trees.record(Layout(str(self.folders[source])), found)  # as an attempt's end does
        self.firsts[target].request("lease", holder="a benchmark")
        errand = Errand(source, path, target, path, found.root, "use", "0001")
        if direct:
            to = openssh.crossing(self.machine(target), str(self.folders[target]), "~/none", "L")
            return carried(lambda: Direct(errand, self.firsts[source], to, self.tokens[target]), {source: self.firsts[source]}, until)
        ends = {name: self.clients[name] for name in (source, target)}
        return carried(lambda: Relay(errand, ends[source], ends[target]), ends, until)

    def cold(self, source: str, target: str, path: str, direct: bool = False) -> float:
        """Seconds of a move to where nothing is."""
        for name in (path, ".albor/store", ".albor/incoming"):
            shutil.rmtree(self.folders[target] / name, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            (self.folders[target] / path).unlink()
        os.sync()
        return self.move(source, target, path, direct=direct)[0]

    def name(self, machine: str, path: str) -> str:
        """A path as `scp` and `rsync` take it."""
        return str(self.folders[machine] / path) if machine == "here" else f"{machine}:{self.folders[machine]}/{path}"

    def command(self, words: list[str], target: str, clear: bool) -> float:
        """Seconds of another program; what it made before is taken away first where that is asked for."""
        if clear:
            shutil.rmtree(self.folders[target] / "theirs", ignore_errors=True)
        (self.folders[target] / "theirs").mkdir(exist_ok=True)
        os.sync()
        return seconds(words, self.folders["here"])


def measure(bench: Bench, size: int, count: int, rounds: int) -> None:
    """One line a measure."""
    config = str(bench.network.config)
    ssh = f"ssh -F {config}"
    programs = {name: shutil.which(name) for name in ("scp", "rsync")}
    for name in [name for name, found in programs.items() if found is None]:
        row(f"{name} is not installed", "-", "its rows are left out")
    scp, rsync = programs["scp"], programs["rsync"]
    if size:
        big(bench, size, rounds, lambda words: [scp, "-q", "-F", config, *words] if scp else None)
    if count:
        small(bench, count, rounds, lambda words: [rsync, "-a", "-e", ssh, "--rsync-path", rsync, *words] if rsync else None)


Words = Callable[[list[str]], "list[str] | None"]


def big(bench: Bench, size: int, rounds: int, scp: Words) -> None:
    """One file of `size` bytes."""
    for machine in ("here", "a"):
        with (bench.folders[machine] / "big").open("wb") as file:
            for _ in range(size >> 20):
                file.write(os.urandom(1 << 20))
    for source, target, more in (("here", "a", []), ("a", "b", ["-3"])):
        what: dict[str, Callable[[], float]] = {}
        if source == "here":
            (bench.folders["a"] / "big").rename(bench.folders["a"] / "kept")
        what["ours"] = lambda source=source, target=target: bench.cold(source, target, "big")  # type: ignore[misc]
        if target == "b":
            what["direct"] = lambda source=source, target=target: bench.cold(source, target, "big", True)  # type: ignore[misc]
        words = scp([*more, bench.name(source, "big"), bench.name(target, "theirs/big")])
        if words is not None:
            what["scp"] = lambda words=words, target=target: bench.command(words, target, True)  # type: ignore[misc]
        if words is not None and target == "b":
            there = ["ssh", "-F", str(bench.network.config), "a", *words[:-2], str(bench.folders["a"] / "big"), words[-1]]
            there.remove("-3")
            what["scp there"] = lambda words=there: bench.command(words, "b", True)  # type: ignore[misc]
        times = in_turns(what, rounds)
        for name, took in times.items():
            peer = BESIDE.get(name)
            ratio = f"{times[peer] / took:.2f} x the rate of {peer}, {LIMITS['big']}" if peer in times else ""
            row(f"{size >> 20} MiB {source} -> {target}, {name}", f"{took:.2f} s", f"{size / took / 1e6:.0f} MB/s  {ratio}")
        cut(bench, source, target, size)
        time.sleep(AGE_S)
        row(f"the same unchanged, {source} -> {target}", f"{bench.move(source, target, 'big')[0]:.3f} s", LIMITS["same"])
        if source == "here":
            (bench.folders["a"] / "big").unlink()
            (bench.folders["a"] / "kept").rename(bench.folders["a"] / "big")


def cut(bench: Bench, source: str, target: str, size: int) -> None:
    """Break off at 60 %, connect again, go on."""
    (bench.folders[target] / "big").unlink()
    bench.move(source, target, "big", CUT_AT)
    for name in (source, target):
        bench.connect(name)
    took, sent = bench.move(source, target, "big")
    row(f"cut at {CUT_AT:.0%}, then the rest, {source} -> {target}", f"{took:.2f} s", f"{sent / size:.1%} sent again, {LIMITS['again']}")


def small(bench: Bench, count: int, rounds: int, rsync: Words) -> None:
    """`count` files of 1 to 8 KiB in folders of 200."""
    base = bench.folders["here"] / "many"
    for number in range(count):
        path = base / f"{number // 200:04}" / f"{number % 200:03}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(1024 + number * 37 % 7168))
    time.sleep(AGE_S)
    bench.move("here", "a", "many")
    words = rsync([f"{base}/", bench.name("a", "theirs/many/")])
    cold: dict[str, Callable[[], float]] = {"ours": lambda: bench.cold("here", "a", "many")}
    again: dict[str, Callable[[], float]] = {"ours": lambda: bench.move("here", "a", "many")[0]}
    one: dict[str, Callable[[], float]] = {"ours": lambda: changed(base, lambda: bench.move("here", "a", "many")[0])}
    if words is not None:
        cold["rsync"] = lambda: bench.command(words, "a", True)
        again["rsync"] = lambda: bench.command(words, "a", False)
        one["rsync"] = lambda: changed(base, lambda: bench.command(words, "a", False))
    for what, turns, limit in (("first", cold, LIMITS["small"]), ("unchanged", again, LIMITS["same"]), ("one changed", one, LIMITS["one"])):
        times = in_turns(turns, rounds)
        for name, took in times.items():
            beside = f"{times['rsync'] / took:.2f} x its rate, {limit}" if name == "ours" and "rsync" in times else ""
            row(f"{count} files here -> a, {what}, {name}", f"{took:.2f} s", beside)
        time.sleep(AGE_S)


def changed(base: Path, then: Callable[[], float]) -> float:
    """Seconds of what comes after one file got other bytes."""
    (base / "0000" / "000.bin").write_bytes(os.urandom(2000))
    return then()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--files", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--first-way", action="store_true", help="over paramiko")
    args = parser.parse_args()
    with folder() as where:
        network = Network(where / "net")
        os.environ["ALBOR_SSH_CONFIG"] = str(network.config)
        try:
            network.add("a")
            network.add("b")
            program = network.boxes["a"].folder / "bin/ssh"
            program.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -i {network.key.path} "$@"\n')
            program.chmod(0o755)
            measure(Bench(where, network, args.first_way), args.size_mib << 20, args.files, args.rounds)
        finally:
            network.close()


if __name__ == "__main__":
    main()
