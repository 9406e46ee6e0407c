"""python_env: what it does when it is made for real, without a network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from albor_pipeline.errors import ManifestError
from albor_pipeline.manifest.load import load
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources.python_env import AS_LOCKED, PythonEnvKind, interpreter

KIND = PythonEnvKind()


def environment(tmp_path: Path, fields: str) -> tuple[Any, Any]:
    path = tmp_path / "m.yaml"
    path.write_text(f'version: "1.0"\nname: x\nresources:\n  env: {{type: python_env, {fields}}}\n')
    manifest = load(path)
    return manifest.resources["env"], manifest.machines["localhost"]


def perform(operations: list[dict[str, Any]], root: Path) -> None:
    for operation in operations:
        path = root / operation.get("path", ".")
        if operation["verb"] == "sh":
            subprocess.run(["sh", "-c", operation["script"]], cwd=root, check=True, stdin=subprocess.DEVNULL)
        elif operation["type"] == "file":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(operation["data"])


def look(resource: Any, machine: Any, root: Path) -> list[dict[str, Any]]:
    python, script = KIND.probes(resource, machine)
    listing = "import json, importlib.metadata as m; print(json.dumps({d.metadata['Name']: d.version for d in m.distributions()}))"
    found = subprocess.run([root / python["python"], "-I", "-c", listing], capture_output=True, check=True, text=True)
    lock = subprocess.run(["sh", "-c", script["script"]], cwd=root, capture_output=True, check=False, text=True)
    return [{"python": "3", "dists": json.loads(found.stdout)}, {"exit": lock.returncode, "stdout": lock.stdout}]


@pytest.mark.slow
def test_it_is_made_proven_and_its_later_change_is_named(tmp_path: Path) -> None:
    resource, machine = environment(tmp_path, f"python: {sys.executable}")
    perform(KIND.converge(resource, machine, tmp_path, Observation(False)), tmp_path)
    results = look(resource, machine, tmp_path)
    wanted = KIND.wanted(resource, machine, tmp_path)
    assert dict(KIND.observe(results).values) == dict(wanted)
    results[0]["dists"] = {name: "0.1" if name == "pip" else version for name, version in results[0]["dists"].items()}
    assert KIND.observe(results).values["packages"].startswith("pip ")
    assert KIND.observe(results).values["packages"].endswith("-> 0.1")


def test_the_spelling_of_a_distribution_is_no_change(tmp_path: Path) -> None:
    lock = '{"wanted": {}, "dists": {"Typing_Extensions": "4.1"}}'
    seen = KIND.observe([{"dists": {"typing-extensions": "4.1"}}, {"stdout": lock}])
    assert seen.values["packages"] == AS_LOCKED


def test_without_a_lock_it_is_not_what_is_wanted() -> None:
    seen = KIND.observe([{"dists": {}}, {"exit": 1, "stdout": ""}])
    assert seen.exists and seen.values["packages"] != AS_LOCKED


def test_a_changed_requirements_file_changes_what_is_wanted(tmp_path: Path) -> None:
    resource, machine = environment(
        tmp_path, "requirements: [numpy>=1.26], requirements_file: reqs.txt, index: https://p.example"
    )
    (tmp_path / "reqs.txt").write_text("pip\n")
    first = KIND.wanted(resource, machine, tmp_path)
    operations = KIND.converge(resource, machine, tmp_path, Observation(False))
    assert operations[1]["data"] == b"pip\nnumpy>=1.26\n"
    assert "--index-url https://p.example" in operations[-1]["script"]
    (tmp_path / "reqs.txt").write_text("wheel\n")
    second = KIND.wanted(resource, machine, tmp_path)
    assert {name for name in first if first[name] != second[name]} == {"requirements_file"}
    assert first["requirements"] == "numpy>=1.26"


def test_a_requirements_file_that_is_not_there_is_an_error_with_its_place(tmp_path: Path) -> None:
    resource, machine = environment(tmp_path, "requirements_file: reqs.txt")
    with pytest.raises(ManifestError) as caught:
        KIND.wanted(resource, machine, tmp_path)
    assert str(caught.value.diagnostics[0].span).endswith("m.yaml:4:46")


@pytest.mark.parametrize("fields", ["requirements: ['-r x']", "requirements: 'numpy'", "path: ''"])
def test_fields_that_cannot_be_meant_are_refused(tmp_path: Path, fields: str) -> None:
    with pytest.raises(ManifestError):
        environment(tmp_path, fields)


def test_the_interpreter_lies_in_the_environment(tmp_path: Path) -> None:
    resource, _ = environment(tmp_path, "path: envs/a/")
    assert interpreter(resource.fields) == "envs/a/bin/python"


def test_removal_takes_everything_that_was_made(tmp_path: Path) -> None:
    resource, machine = environment(tmp_path, "path: e")
    assert [item["path"] for item in KIND.remove(resource, machine)] == ["e", "e.requirements.txt", "e.constraints.txt"]
