"""A command loads what it needs and no more: what a fresh interpreter imports, and how long `--help` takes beside a bare one."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from albor_pipeline.resources.registry import CLASSES
from rules.project import ROOT

HEAVY = {
    "albor_pipeline.cli": {"torch", "numpy", "networkx", "paramiko", "fabric", "pydantic", "rich", "yaml", "asyncio", "blake3"},
    "stages.lib.cli": {"torch", "numpy", "pydantic", "yaml", "pyarrow", "tokenizers", "safetensors", "transformers", "asyncio"},
}
OURS = {
    "albor_pipeline.cli": {"albor_pipeline", "albor_pipeline.cli", "albor_pipeline.errors"},
    "stages.lib.cli": {"stages", "stages.lib", "stages.lib.cli"},
}
TAKEN_BY_OTHERS = {"task", "python_env", "build"}  # what a manifest means depends on them whether it has one or not
VERB_HEAVY = {"torch", "numpy", "paramiko", "fabric", "asyncio", "pyarrow", "tokenizers"}
LOADED = "import sys, json; before = set(sys.modules); {}; print(json.dumps(sorted(set(sys.modules) - before)))"
HELP_RATIO = 12.0
HELP_FLOOR_S = 0.25


def loaded(statement: str) -> set[str]:
    """What a fresh interpreter has loaded after a statement."""
    done = subprocess.run([sys.executable, "-c", LOADED.format(statement)], cwd=ROOT, check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", OURS)
def test_the_command_loads_only_an_allow_list(module: str) -> None:
    found = loaded(f"import {module}")
    tops = {name.split(".")[0] for name in found}
    package = module.split(".")[0]
    assert {name for name in found if name.split(".")[0] == package} == OURS[module]
    assert tops - {package} <= sys.stdlib_module_names
    assert tops & HEAVY[module] == set()


@pytest.mark.parametrize("verb", ["plan", "apply", "status", "drift", "validate", "history", "ps"])
def test_a_verb_loads_no_heavy_library(verb: str) -> None:
    tops = {name.split(".")[0] for name in loaded(f"import albor_pipeline.cli.{verb}")}
    assert tops & (VERB_HEAVY | {"networkx", "rich"}) == set()


def test_a_whole_plan_loads_neither_torch_nor_networkx(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text('version: "1.0"\nname: tiny\nresources:\n  a:\n    type: task\n    command: "true"\n')
    run = f"from albor_pipeline.cli import main; main(['plan', {str(tmp_path / 'tiny.yaml')!r}])"
    tops = {name.split(".")[0] for name in loaded(run)}
    assert tops & (VERB_HEAVY | {"rich"}) == set()


def test_a_plan_imports_the_kinds_of_its_manifest_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text('version: "1.0"\nname: tiny\nresources:\n  a: {type: file, path: a, content: x}\n')
    run = f"from albor_pipeline.cli import main; main(['plan', {str(tmp_path / 'tiny.yaml')!r}])"
    found = {name.rpartition(".")[2] for name in loaded(run) if name.startswith("albor_pipeline.resources.")}
    assert found & set(CLASSES) == {"file", *TAKEN_BY_OTHERS}


def test_machines_are_called_before_what_only_a_plan_needs_is_imported() -> None:
    late = {"albor_pipeline.plan.judge", "albor_pipeline.run.observe", "albor_pipeline.run.lint", "albor_pipeline.run.executor"}
    assert loaded("import albor_pipeline.run.session") & late == set()


def test_the_thread_of_a_connection_has_nothing_to_import_from_the_library_of_ssh() -> None:
    begin = (
        "from albor_pipeline.transport import ssh; from albor_pipeline.model.manifest import Machine; ssh.SshChannel = lambda *_: None; "
        "ssh.SshTransport().start(Machine('a', 'a', 'a'), '/', '', '')"
    )
    found = loaded(begin)
    assert "paramiko.client" in found and "invoke.runners" not in found


@pytest.mark.parametrize("module", OURS)
def test_help_starts_fast_beside_a_bare_interpreter(module: str) -> None:
    """A ratio, and generous: both are measured in turns in the same run, the quickest of each is compared."""
    command = f"import sys; from {module} import main; sys.argv[1:] = ['--help']; main(['--help'])"
    bare, ours = [], []
    for _ in range(7):
        bare.append(_seconds("pass"))
        ours.append(_seconds(command))
    assert min(ours) < max(HELP_RATIO * min(bare), HELP_FLOOR_S), (statistics.median(ours), statistics.median(bare))


def _seconds(code: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    return time.perf_counter() - began
