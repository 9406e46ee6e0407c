"""Words that must not stand in the project: unfinished work, paths of one machine, registries, bare skips, imports that cannot be read."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from rules.project import PYTHON, python_files, shown, text_files, tree_of

FORBIDDEN = {
    "unfinished work": r"\b(?:TODO|FIXME|XXX|HACK)\b",
    "a path of one machine": r"(?<![\w.{}~-])/(?:work|home/\w+|root|Users)/\w",
    "a registry or an index": r"pypi\.|artifactory|pythonhosted|ghcr\.io|docker\.io",
    "a page that is not part of the project": r"\b(?:DESIGN|STYLE|UX|TESTS)\.md\b",
}
NUMBERED = re.compile(r"(?:_[a-z0-9]|_v?\d+|_(?:new|old|ext|misc|copy))\.py$")
DYNAMIC = ("import_module", "__import__", "exec", "eval", "spec_from_file_location", "run_path", "run_module")
SKIPS = ("mark.skip", "mark.skipif", "mark.xfail", "pytest.skip", "pytest.xfail")


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    found = []
    for path in (path for path in text_files() if path != Path(__file__)):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if re.search(FORBIDDEN[what], line):
                found.append(f"{shown(path)}:{number}: {line.strip()[:100]}")
    assert found == []


def test_no_file_is_named_as_a_copy_of_another() -> None:
    assert [shown(path) for path in python_files(*PYTHON) if NUMBERED.search(path.name)] == []


def test_a_stage_imports_only_by_literal_names() -> None:
    """The code digest of a stage follows its imports; one whose name is computed could not be followed.

    stages/lib/cli.py is the command, not a stage: it picks the stage's module from the table STAGES.
    """
    found = []
    for path in python_files("stages"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and _name(node.func) in DYNAMIC:
                literal = bool(node.args) and isinstance(node.args[0], ast.Constant)
                if not literal and shown(path) != "stages/lib/cli.py":
                    found.append(f"{shown(path)}:{node.lineno}")
    assert found == []


def test_every_skipped_test_says_why() -> None:
    found = []
    for path in python_files("tests"):
        for node in ast.walk(tree_of(path)):
            if not isinstance(node, ast.Call | ast.Attribute):
                continue
            if _is_bare_skip(path, node):
                found.append(f"{shown(path)}:{node.lineno}")
    assert found == []


def _is_bare_skip(path: Path, node: ast.Call | ast.Attribute) -> bool:
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).endswith(SKIPS) and not (node.args or node.keywords)
    return ast.unparse(node).endswith("mark.skip") and not _is_called(path, node)


def _is_called(path: Path, node: ast.Attribute) -> bool:
    return any(isinstance(call, ast.Call) and call.func is node for call in ast.walk(tree_of(path)))


def _name(function: ast.expr) -> str:
    """The called name; `model.eval()` is a method of something else and not the builtin."""
    if isinstance(function, ast.Attribute):
        return "" if function.attr in ("eval", "exec", "compile") else function.attr
    return function.id if isinstance(function, ast.Name) else ""
