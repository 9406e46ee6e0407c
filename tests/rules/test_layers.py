"""The import graph is that of docs/architecture.md: rooms see what lies below them and not one another."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rules.project import CODE, ROOT, imports, python_files, shown

L0 = {"errors", "model", "agent"}
L1 = {"resources", "transport", "state"}
L2 = {"manifest", "plan"}
SEES: dict[str, set[str]] = {
    "errors": set(),
    "model": {"errors"},
    "agent": set(),
    **dict.fromkeys(L1, L0),
    **{room: L0 | {"resources"} for room in L2},
    "run": L0 | L1 | L2,
    "ui": L0,
    "cli": L0 | L1 | L2 | {"run", "ui", "__version__"},
    "__main__": {"cli"},
    "__init__": set(),
}
LIBRARIES: dict[str, set[str]] = {
    "agent": {"blake3"},
    "manifest": {"pydantic", "pydantic_core", "yaml"},
    "resources": {"pydantic", "pydantic_core", "packaging"},
    "plan": {"networkx"},
    "transport": {"blake3", "invoke", "paramiko"},
    "run": {"yaml"},
    "ui": {"rich"},
    "cli": {"networkx"},
}


def room_of(path: Path) -> str:
    """The room of a file of albor_pipeline: its folder, or its own name when it lies at the top."""
    parts = path.relative_to(ROOT).parts
    return parts[1] if len(parts) > 2 else path.stem


def test_every_folder_of_the_engine_is_a_room_with_a_rule() -> None:
    assert {room_of(path) for path in python_files("albor_pipeline")} <= set(SEES)


def test_rooms_see_only_the_rooms_below_them() -> None:
    wrong = []
    for path in python_files("albor_pipeline"):
        room = room_of(path)
        for module, line in imports(path):
            names = module.split(".")
            if names[0] == "albor_pipeline" and names[1] not in SEES[room] | {room}:
                wrong.append(f"{shown(path)}:{line} ({room}) imports {module}")
    assert wrong == []


def test_each_room_uses_only_the_libraries_it_needs() -> None:
    wrong = []
    for path in python_files("albor_pipeline"):
        allowed = LIBRARIES.get(room_of(path), set())
        for module, line in imports(path):
            top = module.split(".")[0]
            if top not in sys.stdlib_module_names and top != "albor_pipeline" and top not in allowed:
                wrong.append(f"{shown(path)}:{line} imports {module}")
    assert wrong == []


@pytest.mark.parametrize(("mine", "other"), [CODE, CODE[::-1]])
def test_engine_and_stages_never_import_each_other(mine: str, other: str) -> None:
    found = [f"{shown(path)}:{line}" for path in python_files(mine) for module, line in imports(path) if module.split(".")[0] == other]
    assert found == []


def test_no_product_code_imports_tests_or_benchmarks() -> None:
    outside = {"tests", "benchmarks", "pytest", "hypothesis"}
    found = [f"{shown(path)}:{line}" for path in python_files(*CODE) for module, line in imports(path) if module.split(".")[0] in outside]
    assert found == []
