"""Requests over an open SSH connection, on loopback: ours beside plain paramiko and `ssh` with ControlMaster, in one run.

    python -m benchmarks.ssh [--requests 100] [--rounds 5]

Each round makes the requests of all three in turns against one sshd of its own. Ours must need 3 ms a request at most. plain
paramiko opens a session a command as its manual shows; `ssh` reuses a master connection, and pays for a process. What it takes
to connect, and to send 64 MiB there, stands apart.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import paramiko

from albor_pipeline.model.manifest import Machine
from albor_pipeline.transport.client import AgentClient
from albor_pipeline.transport.ssh import SshTransport
from benchmarks.common import ROOT, folder, in_turns, row

sys.path.insert(0, str(ROOT / "tests"))
from sshd import Network

LIMIT_MS = 3.0
BULK = b"x" * (64 << 20)
BOX = Machine("box", "box", "box")


def ours(network: Network) -> AgentClient:
    """A connected agent."""
    os.environ["ALBOR_SSH_CONFIG"] = str(network.config)
    return SshTransport().connect(BOX, str(network.folder), "~/work", "L")


def plain(network: Network) -> paramiko.SSHClient:
    """A client as the library comes."""
    client = paramiko.SSHClient()
    client.load_host_keys(str(network.known_hosts))
    client.connect("127.0.0.1", network.boxes["box"].port, key_filename=str(network.key.path), allow_agent=False, look_for_keys=False)
    return client


@contextmanager
def master(network: Network) -> Iterator[list[str]]:
    """The words of an `ssh` command that goes over a master connection."""
    socket = network.folder / "m"
    words = ["ssh", "-F", str(network.config), "-o", f"ControlPath={socket}"]
    subprocess.run([*words, "-o", "ControlMaster=yes", "-o", "ControlPersist=60", "-f", "-N", "box"], check=True)
    yield [*words, "box"]
    subprocess.run([*words, "-O", "exit", "box"], check=False, capture_output=True)


def timed(count: int, one: Any) -> float:
    """Seconds of one request, over so many."""
    began = time.perf_counter()
    for _ in range(count):
        one()
    return (time.perf_counter() - began) / count


def run_plain(client: paramiko.SSHClient) -> None:
    _stdin, stdout, _stderr = client.exec_command("true")
    stdout.channel.recv_exit_status()


def connecting(network: Network) -> float:
    """Seconds from nothing to the agent's hello, and back."""
    began = time.perf_counter()
    client = ours(network)
    took = time.perf_counter() - began
    client.close()
    return took


def by_scp(network: Network) -> float:
    """Seconds for the same bytes by `scp`."""
    source = Path(network.folder, "bulk")
    source.write_bytes(BULK)
    target = f"box:{network.boxes['box'].home}/by-scp"
    began = time.perf_counter()
    subprocess.run(["scp", "-q", "-F", str(network.config), str(source), target], check=True)
    return time.perf_counter() - began


def compare(network: Network, requests: int, rounds: int) -> None:
    """One line a measure."""
    client, other = ours(network), plain(network)
    with master(network) as words:
        times = in_turns(
            {
                "ours": lambda: timed(requests, lambda: client.request("code_has", digest="0" * 16)),
                "ours, a command": lambda: timed(requests, lambda: client.request("sh", script="true")),
                "paramiko as it comes": lambda: timed(requests, lambda: run_plain(other)),
                "ssh with ControlMaster": lambda: timed(requests, lambda: subprocess.run([*words, "true"], check=True)),
                "connect and hello": lambda: connecting(network),
                "64 MiB by the agent": lambda: timed(1, lambda: client.request("put", path="bulk", data=BULK)),
                "64 MiB by scp": lambda: by_scp(network),
            },
            rounds,
        )
    client.close()
    other.close()
    for name in ("ours", "ours, a command", "paramiko as it comes", "ssh with ControlMaster"):
        ratio = f"ours, a command, needs {times['ours, a command'] / times[name]:.2f} x that"
        beside = f"limit {LIMIT_MS} ms" if name == "ours" else "" if name == "ours, a command" else ratio
        row(f"one of {requests} requests, {name}", f"{times[name] * 1000:.2f} ms", beside)
    row("connect and hello", f"{times['connect and hello'] * 1000:.0f} ms")
    for name in ("64 MiB by the agent", "64 MiB by scp"):
        ratio = times["64 MiB by scp"] / times[name]
        row(name, f"{64 / times[name]:.0f} MiB/s", f"{ratio:.2f} x scp")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with folder() as where:
        network = Network(where / "net")
        try:
            network.add("box")
            compare(network, args.requests, args.rounds)
        finally:
            network.close()


if __name__ == "__main__":
    main()
