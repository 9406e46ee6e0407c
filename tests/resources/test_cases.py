"""Resource cases as data: declared fields and what the probe answered -> what is seen, what differs, which operations follow.

A case is a file `<type>/<case>.yaml`; adding one is adding a file. `operations`, where given, are compared exactly, `ends` are the
last lines of each script; `does` has for each operation words that stand in it in this order; `wanted` and `seen` are the values,
`shown` values as a user reads them, `files` those of the project, `shows` the fields whose effect it is.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from albor_pipeline.manifest.load import load
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources.base import Instance
from albor_pipeline.resources.registry import convergent

HERE = Path(__file__).parent
CASES = sorted(HERE.glob("*/*.yaml"))


def resource_of(case: dict[str, Any], kind: str, root: Path) -> Instance:
    declared = {"version": "1.0", "name": "case", "resources": {"it": {"type": kind, **case["fields"]}}}
    path = root / "case.yaml"
    text = json.dumps(declared, ensure_ascii=False)
    path.write_text("".join(letter if letter.isascii() else f"\\U{ord(letter):08x}" for letter in text))
    for name, text in case.get("files", {}).items():
        (root / name).write_text(text)
    manifest = load(path)
    return Instance(manifest.resources["it"], manifest.machines["localhost"], root)


def plain(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_case(path: Path, tmp_path: Path) -> None:
    case = yaml.safe_load(path.read_text())
    kind = convergent(path.parent.name)
    one = resource_of(case, kind.name, tmp_path)
    assert len(kind.probes(one)) == len(case["probe"])
    seen = kind.observe(one, case["probe"])
    assert (seen.exists, seen.error) == (case.get("exists", True), case.get("error"))
    assert {name: seen.values.get(name) for name in case.get("shown", {})} == case.get("shown", {})
    wanted = kind.wanted(one)
    assert sorted(name for name, value in wanted.items() if seen.values.get(name) != value) == sorted(
        case.get("differs", [])
    )
    operations = kind.converge(one, seen)
    found = [{key: plain(value) for key, value in operation.items() if key != "timeout_s"} for operation in operations]
    for operation in found:
        if operation["verb"] == "sh":
            subprocess.run(["sh", "-n"], input=operation["script"].encode(), check=True)
    assert found == case.get("operations", found)
    scripts = [operation["script"].rstrip("\n") for operation in found if operation["verb"] == "sh"]
    for script, end in zip(scripts, case.get("ends", ["" for _ in scripts]), strict=True):
        assert script.endswith(end)
    assert dict(wanted) == case.get("wanted", wanted)
    assert dict(seen.values) == case.get("seen", seen.values)
    assert [None for words, operation in zip(case.get("does", found), found, strict=True) if not in_order(words, operation)] == []


def in_order(words: Any, operation: dict[str, Any]) -> bool:
    text, at = " ".join(map(str, operation.values())), 0
    for word in words.split(" .. ") if isinstance(words, str) else ():
        at = text.find(word, at) + 1
        if at == 0:
            return False
    return True


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.name}-{path.stem}")
@pytest.mark.parametrize(
    "results", [[], [{}], [{}, {}], [{"error": "x"}], [{"dists": 3}, {"stdout": "[1"}], [{"found": True}]]
)
def test_odd_answers_are_an_error_or_a_partial_view_and_never_a_traceback(
    path: Path, results: list[dict[str, Any]], tmp_path: Path
) -> None:
    kind = convergent(path.parent.name)
    one = resource_of(yaml.safe_load(path.read_text()), kind.name, tmp_path)
    assert isinstance(kind.observe(one, results), Observation)
