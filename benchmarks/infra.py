"""20 directories and 100 small files with a mode over SSH, from nothing and with nothing to do: ours beside pyinfra, Ansible and tar.

    python -m benchmarks.infra [--rounds 3] [--pyinfra] [--ansible] [--machines 8] [--rtt-ms 50]

Against one sshd of its own, on loopback. Ours must converge from nothing in 1.0 s, and in twice what one tar stream that was written
by hand takes, and find nothing to do in 0.6 s; pyinfra may take no less than 20 times as long, Ansible 80 times. Both are installed
into environments of their own under build/, and measured once: they take a minute. --machines compares that many, of 50 things each, with
one: they may take twice as long, though all their servers share this one's processors; bare logins at all of them stand beside that.
--rtt-ms is a machine of the test bed (root) so far away; there nothing to do may take 4 round trips and 0.3 s more than a bare `ssh` and
what nothing to do takes without a connection.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import BIN, OURS, ROOT, folder, in_turns, peer, row, seconds

sys.path.insert(0, str(ROOT / "tests"))
from sshd import Network
from testbed.base import obstacle
from testbed.bed import Bed

FOLDERS, FILES, EACH = 20, 100, 50
SETTLED_S = 2.2  # what is younger is looked at anew
LIMITS_S = {"from nothing": 1.0, "nothing to do": 0.6}


class Bench:
    """One project and one machine; `there` is where the things are made."""

    def __init__(self, network: Network, where: Path) -> None:
        self.network = network
        self.root = where / "project"
        self.there = network.boxes["box"].home / "made"
        self.env = {"ALBOR_SSH_CONFIG": str(network.config), "XDG_CACHE_HOME": str(where / "cache")}
        self.paths = [f"{self.there}/d{number % FOLDERS}/f{number}" for number in range(FILES)]
        self.root.mkdir()

    def manifest(self) -> list[str]:
        """Ours: the words of `apply`."""
        items = {f"d{n}": {"state": "directory", "path": f"{self.there}/d{n}", "mode": "0755"} for n in range(FOLDERS)}
        files = {
            f"f{n}": {"path": path, "content": f"{n}\n", "mode": "0640", "depends_on": [f"d{n % FOLDERS}"]}
            for n, path in enumerate(self.paths)
        }
        lines = [f"  {name}: {json.dumps({'type': 'file', 'machine': 'box', **fields})}" for name, fields in {**items, **files}.items()]
        head = 'version: "1.0"\nname: bench\nmachines: {box: {addr: box}}\nresources:\n'
        (self.root / "bench.yaml").write_text(head + "\n".join(lines) + "\n")
        return [OURS, "apply", "bench.yaml"]

    def pyinfra(self) -> list[str]:
        """The same for pyinfra."""
        lines = ["from io import StringIO", "from pyinfra.operations import files"]
        lines += [f"files.directory(path={f'{self.there}/d{n}'!r}, mode='755')" for n in range(FOLDERS)]
        lines += [f"files.put(src=StringIO({f'{n}' + chr(10)!r}), dest={path!r}, mode='640')" for n, path in enumerate(self.paths)]
        (self.root / "deploy.py").write_text("\n".join(lines) + "\n")
        box = self.network.boxes["box"]
        data = {"ssh_port": box.port, "ssh_key": str(self.network.key.path), "ssh_strict_host_key_checking": "off"}
        (self.root / "inventory.py").write_text(f"hosts = [('127.0.0.1', {data!r})]\n")
        return [str(peer("pyinfra")), "-y", "inventory.py", "deploy.py"]

    def ansible(self) -> list[str]:
        """The same for Ansible, with pipelining and ControlPersist."""
        tasks = [{"file": {"path": f"{self.there}/d{n}", "state": "directory", "mode": "0755"}} for n in range(FOLDERS)]
        tasks += [{"copy": {"dest": path, "content": f"{n}\n", "mode": "0640"}} for n, path in enumerate(self.paths)]
        (self.root / "play.yaml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        args = f"-F {self.network.config} -o ControlMaster=auto -o ControlPersist=60s"
        (self.root / "hosts.ini").write_text(f'box ansible_python_interpreter={sys.executable} ansible_ssh_common_args="{args}"\n')
        (self.root / "ansible.cfg").write_text("[ssh_connection]\npipelining = true\n")
        peer("ansible-core", "ansible-playbook")
        return [str(peer("ansible-core", "ansible-playbook")), "-i", "hosts.ini", "play.yaml"]

    def tar(self) -> float:
        """One tar stream by hand, over `ssh`."""
        source = self.root / "tree"
        if not source.exists():
            for number, path in enumerate(self.paths):
                file = source / Path(path).relative_to(self.there)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f"{number}\n")
                file.chmod(0o640)
        script = f"tar -C {source} -c . | ssh -F {self.network.config} box 'mkdir -p {self.there} && tar -C {self.there} -x'"
        return seconds(["sh", "-c", script], self.root)

    def fresh(self) -> None:
        """Nothing made, nothing recorded."""
        for path in (self.there, self.root / "state", self.root / ".albor"):
            shutil.rmtree(path, ignore_errors=True)

    def timed(self, words: list[str]) -> Callable[[], float]:
        """From nothing, by these words."""

        def measure() -> float:
            self.fresh()
            return seconds(words, self.root, self.env)

        return measure


def compare(bench: Bench, rounds: int, peers: dict[str, list[str]]) -> None:
    """The rows: from nothing, then nothing to do."""
    ours = bench.manifest()
    seconds(ours, bench.root, bench.env)
    ways = {"albor-pipeline": bench.timed(ours), "tar over ssh": lambda: (bench.fresh(), bench.tar())[1]}
    ways["bare python"] = lambda: seconds([sys.executable, "-c", "pass"], bench.root)
    ways["python, import paramiko"] = lambda: seconds([str(BIN / "python"), "-c", "import paramiko"], bench.root)
    made = in_turns(ways, rounds)
    bench.timed(ours)()
    time.sleep(SETTLED_S)
    seconds(ours, bench.root, bench.env)
    nothing = in_turns({"albor-pipeline": lambda: seconds(ours, bench.root, bench.env)}, rounds)["albor-pipeline"]
    tar = made["tar over ssh"]
    beside = f"limit {LIMITS_S['from nothing']} s; {made['albor-pipeline'] / tar:.1f} x tar (2)"
    row("from nothing, albor-pipeline", f"{made['albor-pipeline']:.2f} s", beside)
    row("nothing to do, albor-pipeline", f"{nothing:.2f} s", f"limit {LIMITS_S['nothing to do']} s")
    for name in ("tar over ssh", "bare python", "python, import paramiko"):
        row(name, f"{made[name]:.2f} s")
    for name, words in peers.items():
        first, again = bench.timed(words)(), seconds(words, bench.root, bench.env)
        row(f"from nothing, {name}", f"{first:.1f} s", f"{first / made['albor-pipeline']:.0f} x ours")
        row(f"nothing to do, {name}", f"{again:.1f} s", f"{again / nothing:.0f} x ours")


def machines(network: Network, where: Path, count: int, rounds: int) -> None:
    """`count` machines beside one."""
    for number in range(count):
        network.add(f"box{number}")
    env = {"ALBOR_SSH_CONFIG": str(network.config), "XDG_CACHE_HOME": str(where / "cache")}
    roots = {size: where / f"machines{size}" for size in (1, count)}
    for size, root in roots.items():
        root.mkdir()
        names = [f"box{number}" for number in range(size)]
        lines = [f"  f{n}: {{type: file, machine: [{', '.join(names)}], path: ~/made{size}/f{n}, content: '{n}'}}" for n in range(EACH)]
        head = f"machines: {{{', '.join(f'{name}: {{addr: {name}}}' for name in names)}}}\nresources:\n"
        (root / "bench.yaml").write_text(f'version: "1.0"\nname: bench{size}\n{head}' + "\n".join(lines) + "\n")

    def fresh(size: int) -> float:
        shutil.rmtree(roots[size] / "state", ignore_errors=True)
        shutil.rmtree(roots[size] / ".albor", ignore_errors=True)
        for box in network.boxes.values():
            shutil.rmtree(box.home / f"made{size}", ignore_errors=True)
        return seconds([OURS, "apply", "bench.yaml"], roots[size], env)

    made = in_turns({str(size): lambda size=size: fresh(size) for size in roots}, rounds)  # type: ignore[misc]
    time.sleep(SETTLED_S)
    for root in roots.values():
        seconds([OURS, "apply", "bench.yaml"], root, env)
    same = in_turns({str(n): lambda root=root: seconds([OURS, "apply", "bench.yaml"], root, env) for n, root in roots.items()}, rounds)  # type: ignore[misc]
    bare = in_turns({str(n): lambda n=n: logins(network, n) for n in roots}, rounds)  # type: ignore[misc]
    for what, times, limit in (("from nothing", made, " (limit 2)"), ("nothing to do", same, " (limit 2)"), ("bare ssh", bare, "")):
        one, all_ = times["1"], times[str(count)]
        row(f"{count} machines of {EACH} things, {what}", f"{all_:.2f} s", f"one {one:.2f} s: {all_ / one:.1f} x{limit}")


def logins(network: Network, count: int) -> float:
    """Seconds of as many bare logins at once: all these machines are this one, and so are their processors."""
    each = " ".join(f"ssh -F {network.config} box{number} true &" for number in range(count))
    return seconds(["sh", "-c", f"{each} wait"], network.config.parent)


def far_away(rtt_ms: float, rounds: int) -> None:
    """The same on a machine of the test bed, `rtt_ms` of round trip away."""
    reason = obstacle()
    if reason:
        sys.exit(f"infra: {reason}")
    with folder() as where, Bed(where / "bed", names=("box",)) as bed:
        bed.machines["box"].link.slow(rtt_ms, 100)
        options = ("--rounds", str(rounds), "--rtt-ms", str(rtt_ms), "--desk", str(where))
        words = bed.desk.words(sys.executable, "-m", "benchmarks.infra", *options)
        subprocess.run(words, cwd=ROOT, env={**os.environ, "ALBOR_SSH_CONFIG": str(bed.config)}, check=True)


def at_the_desk(where: Path, rtt_ms: float, rounds: int) -> None:
    """One line; run where the machine is reached over the slow line."""
    config = os.environ["ALBOR_SSH_CONFIG"]
    for name, addr in (("far", "box"), ("here", "localhost")):
        root = where / name
        root.mkdir()
        lines = [f"  f{n}: {{type: file, machine: box, path: {root}/made/f{n}, content: '{n}'}}" for n in range(FOLDERS + FILES)]
        head = f'version: "1.0"\nname: bench\nmachines: {{box: {{addr: {addr}}}}}\nresources:\n'
        (root / "bench.yaml").write_text(head + "\n".join(lines) + "\n")
        seconds([OURS, "apply", "bench.yaml"], root)
    time.sleep(SETTLED_S)
    ways = {name: lambda name=name: seconds([OURS, "apply", "bench.yaml"], where / name) for name in ("far", "here")}  # type: ignore[misc]
    ways["ssh"] = lambda: seconds(["ssh", "-F", config, "box", "true"], where)
    for way in ways.values():
        way()
    times = in_turns(ways, rounds)
    more, limit = times["far"] - times["here"] - times["ssh"], 4 * rtt_ms / 1000 + 0.3
    beside = f"{times['here']:.2f} s without a connection, bare ssh {times['ssh']:.2f} s: {more:.2f} s more (limit {limit:.2f})"
    row(f"nothing to do, {rtt_ms:.0f} ms away", f"{times['far']:.2f} s", beside)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pyinfra", action="store_true")
    parser.add_argument("--ansible", action="store_true")
    parser.add_argument("--machines", type=int, default=0)
    parser.add_argument("--rtt-ms", type=float, default=0.0)
    parser.add_argument("--desk", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.desk:
        at_the_desk(Path(args.desk), args.rtt_ms, args.rounds)
        return
    if args.rtt_ms:
        far_away(args.rtt_ms, args.rounds)
        return
    with folder() as where:
        network = Network(where / "net")
        try:
            if args.machines:
                machines(network, where, args.machines, args.rounds)
                return
            network.add("box")
            bench = Bench(network, where)
            peers = {"pyinfra": bench.pyinfra()} if args.pyinfra else {}
            peers |= {"Ansible": bench.ansible()} if args.ansible else {}
            compare(bench, args.rounds, peers)
        finally:
            network.close()


if __name__ == "__main__":
    main()
