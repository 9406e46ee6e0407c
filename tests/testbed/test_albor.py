"""manifests/albor.yaml on two bare machines, small by `--env tiny`: its owner sits at lambda, which trains and reaches intel by SSH.

What the test bed has not is replaced, as for manifests/infra.yaml. Python environments are made from an index of empty wheels, of which
one shows the packages of this host that the machines are lent: torch is too large to be installed for a test.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import fakehub
import pytest
import yaml
from cli.builder import Said
from rules.project import ROOT
from wheels import wheel

from testbed.bed import Bed
from testbed.machine import LENT, Machine
from testbed.packages import Package, source
from testbed.test_infra import SERVER

pytestmark = [pytest.mark.root, pytest.mark.slow]
TEXTS = {
    "intel: 10.0.0.12": "intel: intel",
    "https://download.pytorch.org/whl/cpu": "file:///srv/bed/simple",
    "teacher: Qwen/Qwen2.5-Coder-0.5B-Instruct": "teacher: ann/tiny",
    "format: safetensors": "format: gguf",
    'source: "{{params.intel}}:{{params.root}}"': 'source: "{{params.root}}"',
    'source: "{{params.lambda}}:{{params.root}}"': 'source: "{{params.root}}"',
    "fstype: nfs4": "fstype: none",
    "options: ro,soft,timeo=50,_netdev": "options: bind,ro",
}
PIP = "[global]\nindex-url = file:///srv/bed/simple\n"
PROJECT, VENV = "/srv/project", "/srv/venv"
# A finder and no further path: these packages are importable in an environment, and are none of what is installed there. What no
# environment asks for stays away.
SHOW = f"""import sys
from importlib.machinery import PathFinder
class Lent:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return PathFinder.find_spec(name, path or ["{LENT}"]) if name != "transformers" else None
sys.meta_path.append(Lent)
"""
PARTS = ("albor_pipeline", "stages", "contracts", "manifests", "tests")
MADE = ("state", ".albor", "data", "models")
TRAINING, CONTROLLER = "stages.lib.cli pretrain apply", "albor_pipeline apply"
FIGURES = {"loss", "lr", "grad_norm", "val", "bits_per_byte", "best_val"}
CATCH_S = 60.0
LEFT = f"/srv/bed {PROJECT} {VENV} /srv/albor-tiny /mnt/albor-* /etc/exports.d /etc/pip.conf /root/.ssh/{{id_ed25519,known_hosts,config}}"


class Owner:
    """Who types at lambda, in a clone of the project there."""

    def __init__(self, box: Machine) -> None:
        self.box = box

    def run(self, *argv: str) -> Said:
        """Run a verb there."""
        return self.end(self.start(*argv))

    def start(self, *argv: str) -> subprocess.Popen[str]:
        """Run a verb there beside the test."""
        words = f"cd {PROJECT} && PYTHONDONTWRITEBYTECODE=1 exec {VENV}/bin/python -m albor_pipeline {' '.join(argv)}"
        return subprocess.Popen(self.box.words(words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end(self, process: subprocess.Popen[str]) -> Said:
        """Wait for a started verb."""
        out, err = process.communicate()
        return Said(out, err, process.returncode)

    def file(self, path: str) -> Path:
        """A file of the project, as it is seen from here."""
        return Path(f"/proc/{self.box.init}/root{PROJECT}", path)

    def signal(self, name: str, words: str) -> None:
        """A signal to the one process there with such a command line."""
        self.box.do(f"[ $(pgrep --count --full '[{words[0]}]{words[1:]}') = 1 ] && pkill -{name} --full '[{words[0]}]{words[1:]}'")

    def catch(self, task: str, step: int) -> None:
        """Let the training of a task stand still, some steps after its checkpoint of `step` and before the next."""
        limit = time.monotonic() + CATCH_S
        while not (found := self.checkpoints(task, step)):
            assert time.monotonic() < limit, f"{task} has no checkpoint of step {step}"
            time.sleep(0.005)
        self.signal("STOP", TRAINING)
        assert found == self.checkpoints(task, step), "it was caught too late"

    def checkpoints(self, task: str, step: int) -> list[str]:
        """Those of `step` and later."""
        found = (path.parent.name for path in self.file(f".albor/work/{task}").glob("*/checkpoints/step-????????/index.json"))
        return sorted(name for name in found if name >= f"step-{step:08d}")

    def ended(self) -> dict[str, Any]:
        """What the tasks made, by digest, and every figure of every step of training; attempts that made the same step must agree."""
        rows = json.loads(self.run("status", "--env", "tiny", "--json").out)["resources"]
        figures: defaultdict[tuple[str, int, str], set[float]] = defaultdict(set)
        for task in ("train-50m", "pretrain"):
            for line in (line for path in self.attempts(task) for line in (path / "metrics.jsonl").read_text().splitlines()):
                told = json.loads(line)
                for name in FIGURES & told.keys():
                    figures[task, told["step"], name].add(told[name])
        assert figures and not [which for which, values in figures.items() if len(values) > 1]
        return {"made": {row["resource_id"]: row["outputs"] for row in rows if row["resource_type"] == "task"}, "figures": figures}

    def attempts(self, task: str) -> list[Path]:
        """Their folders, in order."""
        return sorted(self.file(f".albor/attempts/{task}").glob("*-*"))


@pytest.fixture
def owner(bed: Bed, tmp_path: Path) -> Iterator[Owner]:
    """Two machines with all that the manifest asks the outside for, and a clone on lambda whose owner can log in to intel."""
    training, teacher = bed.machines["lambda"], bed.machines["intel"]
    ours = "{}.{}".format(*sys.version_info)
    if training.do("python3 -c 'import sys; print(\"{}.{}\".format(*sys.version_info))'").strip() != ours:
        pytest.skip(f"the machines have another Python than the {ours} whose packages they are lent")
    text = (ROOT / "manifests/albor.yaml").read_text()
    for old, new in TEXTS.items():
        assert old in text, old
        text = text.replace(old, new)
    with ExitStack() as stack:
        for box in (training, teacher):
            more = ["mesa-vulkan-drivers", "vulkan-tools", "firmware-amd-graphics"] if box is teacher else []
            packages = [Package("nfs-kernel-server", "1:9.0", SERVER), *(Package(name, "1:9.0") for name in ("nfs-common", *more))]
            stack.enter_context(source(box, "bed-debs", packages))
            root = Path(f"/proc/{box.init}/root")
            _index(root / "srv/bed/simple", text)
            (root / "etc/pip.conf").write_text(PIP)
            box.do("apt-get -q update")
        there = Path(f"/proc/{teacher.init}/root/srv/bed")
        shutil.copy(fakehub.__file__, there / "fakehub.py")
        teacher.do("cd /srv/bed && { setsid python3 fakehub.py hub.url >/dev/null 2>&1 & echo $! > hub.pid; }")
        teacher.do("until [ -s /srv/bed/hub.url ]; do sleep 0.1; done; cp /etc/environment /srv/bed/kept || : > /srv/bed/kept")
        teacher.do("echo HF_ENDPOINT=$(cat /srv/bed/hub.url) >> /etc/environment")
        training.do(f"python3 -m venv --without-pip {VENV}; echo {LENT} > $(echo {VENV}/lib/python3*/site-packages)/lent.pth")
        shellcheck = Path(sys.executable).with_name("shellcheck")
        if shellcheck.is_file():
            shutil.copy(shellcheck, Path(f"/proc/{training.init}/root{VENV}/bin"))
        made = Owner(training)
        for part in PARTS:
            shutil.copytree(ROOT / part, made.file(part), ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", made.file("pyproject.toml"))
        made.file("manifests/albor.yaml").write_text(text)
        ssh = training.home() / ".ssh"
        shutil.copy(bed.key, ssh / "id_ed25519")
        shutil.copy(bed.known_hosts, ssh / "known_hosts")
        (ssh / "config").write_text("ConnectTimeout 3\n")
        yield made
        if teacher.is_on:
            teacher.do("cat /srv/bed/kept > /etc/environment; kill $(cat /srv/bed/hub.pid) 2>/dev/null || true")
        bed.repair()
        for box in (training, teacher):
            box.do(f"umount -lq /mnt/*; rm -rf {LEFT}")


def _index(folder: Path, text: str) -> None:
    """A package index with what the environments of the manifest ask for, at the versions that they ask for."""
    document = yaml.safe_load(text)
    torch = document["environments"]["tiny"]["params"]["torch"]
    wanted = {item for name in ("train-env", "data-env") for item in document["resources"][name]["requirements"]}
    for name, version in (item.replace("{{params.torch}}", torch).split("==") for item in wanted):
        made = wheel(folder / name, name, version, files={"lent.pth": "import lent\n", "lent.py": SHOW} if name == "blake3" else {})
        (folder / name / "index.html").write_text(f'<a href="{made.name}">{name}</a>')


def test_two_bare_machines_are_planned_and_one_that_is_off_is_not_judged(owner: Owner, bed: Bed) -> None:
    said = owner.run("plan", "--env", "tiny")
    assert said.exit == 0 and said.out.startswith("albor-training-pipeline: 29 resources on 2 machines, no state yet"), said
    assert "warning" not in said.err and "unknown" not in said.out, said
    bed.machines["intel"].off()
    said = owner.run("plan", "--env", "tiny", "--json")
    steps = json.loads(said.out)["steps"]
    assert said.exit == 6 and {step["machine"] for step in steps if step["action"] == "unknown"} == {"intel"}, said


@pytest.mark.soak
def test_the_whole_ladder_is_rehearsed_on_two_bare_machines(owner: Owner, bed: Bed) -> None:
    said = owner.run("apply", "--env", "tiny", "--yes", "--target", "pretrain")
    assert said.exit == 0 and owner.file("models/tiny/albor-350m/model.safetensors").is_file(), said
    teacher = Path(f"/proc/{bed.machines['intel'].init}/root")
    other = (owner.file("models/tiny").glob("albor-350m-*"), (teacher / "srv/albor-tiny").glob("teacher*"), teacher.glob("etc/exports.d/*"))
    assert not [path for paths in other for path in paths], "what no training needs"
    said = owner.run("apply", "--env", "tiny", "--yes")
    assert said.exit == 0 and len(owner.attempts("pretrain")) == 1, said
    report = json.loads(owner.file("models/tiny/albor-350m-eval/report.json").read_text())
    assert report["better_than_untrained"], report
    assert not (owner.file("data/raw").exists() or owner.file("models/albor-350m").exists()), "the real run's own"
    assert owner.file("data/tiny/split/val").is_dir() and not owner.file("data/tiny/mixed").exists(), "what lambda needs came from intel"
    said = owner.run("apply", "--env", "tiny")
    assert said.exit == 0 and said.out == "Nothing to do: 29 unchanged.\n", said
    assert owner.run("drift", "--env", "tiny").exit == 0


@pytest.mark.soak
def test_a_ladder_whose_controller_and_whose_training_are_killed_ends_as_one_that_nobody_disturbs(owner: Owner, bed: Bed) -> None:
    """The first training outlives its controller; the second dies with it and with who watches it, and then once more by itself."""
    apply = ("apply", "--env", "tiny", "--yes")
    assert owner.run(*apply).exit == 0
    undisturbed = owner.ended()
    owner.box.do(f"cd {PROJECT} && rm -r {' '.join(MADE)}")
    bed.machines["intel"].do("rm -r /srv/albor-tiny/runs")

    first = owner.start(*apply)
    owner.catch("train-50m", 50)
    owner.signal("KILL", CONTROLLER)
    owner.end(first)
    second = owner.start(*apply)
    assert second.stderr is not None and any({"train-50m", "attached"} <= {*line.split()} for line in second.stderr)
    owner.signal("CONT", TRAINING)

    owner.catch("pretrain", 50)
    owner.signal("KILL", CONTROLLER)
    owner.end(second)
    (attempt,) = owner.attempts("pretrain")
    owner.box.do(f"pkill -KILL --session {json.loads((attempt / 'pid').read_text())['pid']}")
    third = owner.start(*apply)
    owner.catch("pretrain", 150)
    owner.signal("KILL", TRAINING)
    said = owner.end(third)
    assert said.exit == 0, said
    assert owner.ended() == undisturbed
    logs = {task: [(path / "log").read_text() for path in owner.attempts(task)] for task in ("train-50m", "pretrain")}
    assert [text.count("going on from") for text in logs["train-50m"]] == [0]
    before, after = logs["pretrain"]
    assert "going on from" not in before and after.startswith("going on from step-00000050\n"), logs
    assert "try 2 of 5 after: killed by SIGKILL\ngoing on from step-00000150\n" in after, logs
