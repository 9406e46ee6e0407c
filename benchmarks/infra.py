"""20 directories and 100 small files with a mode over SSH, from nothing and with nothing to do: ours beside pyinfra, Ansible and tar.

    python -m benchmarks.infra [--rounds 3] [--pyinfra] [--ansible]

Against one sshd of its own, on loopback. Ours must converge from nothing in 1.0 s, and in twice what one tar stream that was written
by hand takes, and find nothing to do in 0.6 s; pyinfra may take no less than 20 times as long, Ansible 80 times. Both are installed
into environments of their own under build/, and measured once: they take a minute.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.common import BIN, OURS, ROOT, folder, in_turns, peer, row, seconds

sys.path.insert(0, str(ROOT / "tests"))
from sshd import Network

FOLDERS, FILES = 20, 100
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pyinfra", action="store_true")
    parser.add_argument("--ansible", action="store_true")
    args = parser.parse_args()
    with folder() as where:
        network = Network(where / "net")
        try:
            network.add("box")
            bench = Bench(network, where)
            peers = {"pyinfra": bench.pyinfra()} if args.pyinfra else {}
            peers |= {"Ansible": bench.ansible()} if args.ansible else {}
            compare(bench, args.rounds, peers)
        finally:
            network.close()


if __name__ == "__main__":
    main()
