"""What the rule tests share: where the project is, its Python files, and the imports and functions in them. Runs nothing of the project."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = ("albor_pipeline", "stages")
PYTHON = (*CODE, "tests", "benchmarks")
TEXT = (".py", ".md", ".yaml", ".yml", ".toml", ".sh", ".txt", ".json", ".cfg")
LOOSE = ("README.md", "pyproject.toml", "Makefile", "constraints.txt", ".gitignore", ".ci/run")
FOLDERS = (*PYTHON, "contracts", "docs", "manifests")


def python_files(*folders: str) -> list[Path]:
    """Every .py file under these folders of the project."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts)


def text_files() -> list[Path]:
    """Every text file that belongs to the project: code, tests, manifests, contracts, docs, and what lies beside them."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.suffix in TEXT and path.is_file()]
    return sorted([*found, *(ROOT / name for name in LOOSE if (ROOT / name).is_file())])


def shown(path: Path) -> str:
    """The path as a reader would type it."""
    return str(path.relative_to(ROOT))


@cache
def tree_of(path: Path) -> ast.Module:
    """The parsed file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> tuple[tuple[str, int], ...]:
    """Every imported module by its full name, with its line; imports in functions and under TYPE_CHECKING too."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((name, node.lineno) for name in _from(path, node))


def _from(path: Path, node: ast.ImportFrom) -> list[str]:
    module = node.module or ""
    if node.level:
        package = list(path.relative_to(ROOT).parts[:-1])
        base = package[: len(package) - node.level + 1]
        module = ".".join([*base, *([module] if module else [])])
    if (ROOT / module.replace(".", "/")).is_dir():
        return [f"{module}.{alias.name}" for alias in node.names]
    return [module]


def functions(path: Path) -> Iterator[tuple[str, int, int]]:
    """Every function: its name, its line, how many lines it has (decorators not counted)."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno, (node.end_lineno or node.lineno) - node.lineno + 1


def missing_tests(text: str) -> list[str]:
    """Every test named in the text as `folder/test_file.py::test_name` that is not there, in words."""
    return [problem for name in sorted(set(re.findall(r"[\w./-]*test_\w+\.py(?:::\w+)*", text))) if (problem := _missing(name))]


def _missing(name: str) -> str:
    file, *path = name.split("::")
    candidates = [ROOT / file] if file.startswith("tests/") else sorted((ROOT / "tests").rglob(file))
    found = [candidate for candidate in candidates if candidate.is_file()]
    if len(found) != 1:
        return f"{name}: {'no such file' if not found else 'several files have this name'}"
    if not path:
        return f"{name}: names a file and no test"
    body: list[ast.stmt] = tree_of(found[0]).body
    for part in path:
        inside = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == part]
        if not inside:
            return f"{name}: there is no `{part}` in {shown(found[0])}"
        body = inside[-1].body
    return ""
