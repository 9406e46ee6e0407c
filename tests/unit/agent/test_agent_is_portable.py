"""The agent runs where nothing of ours is installed: Python 3.9 syntax, standard library only, blake3 optional and late."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import albor_pipeline.agent

FILES = sorted(Path(albor_pipeline.agent.__file__).parent.glob("*.py"))
NEW_SINCE_39 = {"pairwise", "batched", "removeprefix_", "StrEnum", "tomllib", "EncodingWarning", "UTC", "chdir_context"}


def imports(tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """(module, at the top level) of every import."""
    top = {id(node) for node in getattr(tree, "body", [])}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module), id(node) in top


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_of_the_agent_is_python_39_and_imports_nothing_else(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    for name, top in imports(tree):
        own = name.startswith("albor_pipeline.agent")
        assert own or name.partition(".")[0] in {*sys.stdlib_module_names, "blake3"}, name
        assert not (top and name == "blake3"), "blake3 is imported at the first digest, never at start"
    assert not {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} & NEW_SINCE_39
    assert not any(isinstance(node, ast.Match) for node in ast.walk(tree))
    assert tree.body == [] or any(
        isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body
    )


def test_no_file_of_the_agent_evaluates_a_new_annotation_at_run_time() -> None:
    """`X | None` outside annotations needs 3.10."""
    for path in FILES:
        tree = ast.parse(path.read_text())
        notes = {
            id(sub)
            for node in ast.walk(tree)
            for field in ("annotation", "returns")
            if (note := getattr(node, field, None))
            for sub in ast.walk(note)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and id(node) not in notes:
                names = {sub.value for sub in ast.walk(node) if isinstance(sub, ast.Constant)}
                assert None not in names, f"{path.name}:{node.lineno}"
