"""README.md does what it says: every block marked `run` is executed in a copy of the project, every output is compared.

A fence `sh run` holds commands, a line each; `# exits N` gives another exit code than 0. A fence `yaml PATH` is a file that the
commands after it find there. A fence `text output` is what the last command before it printed; numbers and times may differ.
In the copy the ladder is a small one: few files, a tiny model.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

import pytest

from albor_pipeline.cli import VERBS
from rules.project import ROOT

README = ROOT / "README.md"
ORDER = [
    "Start here", "What plan says", "A manifest in 20 lines", "State, and what survives a crash", "Adding a machine", "Stages",
    "Where to read on",
]  # fmt: skip
SMALL = {
    "manifests/quickstart.yaml": {"source": "corpus", "vocab_size": 512, "seq_len": 64, "val_permille": 200},
    "manifests/train/pretrain-quickstart.yaml": {
        "layers": 1, "d_model": 32, "ffn": 64, "vocab_size": 512, "context": 64, "seq_len": 64, "max_steps": 20, "warmup_steps": 2,
        "eval_interval": 10, "checkpoint_interval": 10,
    },
    "manifests/train/evaluate-quickstart.yaml": {"stride": 32, "max_new_tokens": 8},
    "manifests/train/complete-quickstart.yaml": {"max_new_tokens": 8},
}  # fmt: skip
RAW = "    outputs: [data/quickstart/raw]"
PACKAGES = ("json", "email", "html", "logging", "urllib")


class Block(NamedTuple):
    """One fenced block: its language, what stands beside it, its text."""

    language: str
    mark: str
    text: str


def blocks() -> list[Block]:
    """The fenced blocks of README.md, in order."""
    found = re.findall(r"^```(\w+) ?([^\n]*)\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [Block(*match) for match in found]


def commands(block: Block) -> list[tuple[str, int]]:
    """The command lines of a block and the exit codes that they announce."""
    lines = [line for line in block.text.splitlines() if line.strip()]
    return [(line, int(code.group(1)) if (code := re.search(r"#.*\bexits (\d+)", line)) else 0) for line in lines]


def test_sections_stand_in_the_order_a_newcomer_needs() -> None:
    assert re.findall(r"^## (.+)$", README.read_text(encoding="utf-8"), re.MULTILINE) == ORDER


def test_every_shell_block_is_run() -> None:
    assert [block.text for block in blocks() if block.language == "sh" and block.mark != "run"] == []


def test_every_verb_that_is_named_exists() -> None:
    named = set(re.findall(r"albor-pipeline ([a-z]+)", README.read_text(encoding="utf-8")))
    assert named <= set(VERBS)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with a small ladder, and a .venv that is the one of this test."""
    root = tmp_path_factory.mktemp("readme") / "project"
    for name in ("manifests", "stages"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, root / name)
    for name, values in SMALL.items():
        text = (root / name).read_text()
        for key, value in values.items():
            text, found = re.subn(rf"\b{key}: [\w-]+", f"{key}: {value}", text)
            assert found == 1, f"{key} stands {found} times in {name}"
        (root / name).write_text(text.replace(RAW, f"    inputs: [corpus]\n{RAW}"))
    library = Path(sysconfig.get_path("stdlib"))
    for package in PACKAGES:
        shutil.copytree(library / package, root / "corpus" / package, ignore=shutil.ignore_patterns("__pycache__"))
    _environment(root / ".venv")
    return root


def _environment(folder: Path) -> None:
    """A .venv that `make` takes for installed: its programs are those of the interpreter that runs the tests."""
    (folder / "bin").mkdir(parents=True)
    for module, name in (("albor_pipeline.cli", "albor-pipeline"), ("stages.lib.cli", "albor-stage")):
        script = f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -c 'from {module} import entry; entry()' \"$@\"\n"
        (folder / "bin" / name).write_text(script)
        (folder / "bin" / name).chmod(0o755)
    (folder / "bin" / "activate").write_text(f"PATH={shlex.quote(str(folder / 'bin'))}:$PATH\n")
    (folder / ".installed").touch()


def plain(text: str) -> str:
    """Times of one machine taken out, and which of two chains took longer there."""
    return re.sub(r"> \w+, about .* by earlier", "> LAST, about N by earlier", re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", text)).strip()


@pytest.mark.torch
@pytest.mark.slow
def test_every_block_does_what_it_says(project: Path) -> None:
    path = f"{project / '.venv' / 'bin'}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    said = ""
    for block in blocks():
        if block.language == "yaml":
            (project / block.mark).parent.mkdir(parents=True, exist_ok=True)
            (project / block.mark).write_text(block.text)
        elif block.language == "sh":
            for line, code in commands(block):
                done = subprocess.run(["bash", "-c", line], cwd=project, env=env, capture_output=True, text=True, timeout=240)
                assert done.returncode == code, f"{line}\n{done.stdout}\n{done.stderr}"
                for word in re.findall(r'# "([^"]+)"', line):
                    assert word in done.stdout, line
                said = done.stdout
        elif block.mark == "output":
            assert plain(said) == plain(block.text)
