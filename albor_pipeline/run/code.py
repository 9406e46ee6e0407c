"""What code a task runs: the import closure inside the project, by syntax tree, and the distributions it imports.

A file counts by its syntax tree without docstrings, under the interpreter that plans: a comment never costs a run, a
statement does. Imports in functions and the `__init__` files on the way count too; `FILES`, a tuple of literal paths at
module level, names data files that count by their bytes. Runs nothing.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from albor_pipeline.agent.hashing import digest_bytes

CACHE = Path(".albor") / "cache" / "code.json"
RUNNER = "stages/lib/cli.py"


@dataclass(frozen=True)
class Module:
    """One source file: its digest, the dotted names that it imports, and the data files that it names."""

    digest: str
    imports: tuple[str, ...]
    files: tuple[str, ...]


@dataclass(frozen=True)
class Closure:
    """Files by path relative to the root with their digests, and the top-level names imported from elsewhere."""

    files: Mapping[str, str]
    packages: frozenset[str]


class CodeReader:
    """Reads modules of one project; unchanged files come from a cache by stat. `looked_for` are paths, found or not."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._path = root / CACHE
        self._cache = self._load()
        self._dirty = False
        self._closures: dict[tuple[str, ...], Closure] = {}
        self._found: dict[str, list[str]] = {}
        self.looked_for: set[str] = set()

    def closure(self, *entries: str) -> Closure:
        """Everything that the entry files import inside the project; a file that does not parse counts by its bytes."""
        if entries not in self._closures:
            self._closures[entries] = self._walk(entries)
        return self._closures[entries]

    def is_file(self, path: str) -> bool:
        """Whether the project has such a file; noted in `looked_for`."""
        self.looked_for.add(path)
        return (self.root / path).is_file()

    def _is_folder(self, path: str) -> bool:
        self.looked_for.add(path)
        return (self.root / path).is_dir()

    def save(self) -> None:
        """Keep the cache; failing to is no error, it only costs time."""
        if not self._dirty:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self._path.with_suffix(".tmp")
            temporary.write_text(json.dumps(self._cache))
            temporary.replace(self._path)
        except OSError:
            return

    def _walk(self, entries: tuple[str, ...]) -> Closure:
        files: dict[str, str] = {}
        packages: set[str] = set()
        waiting = [entry for entry in entries if self.is_file(entry)]
        while waiting:
            path = waiting.pop()
            if path in files:
                continue
            module = self._module(path)
            files[path] = module.digest
            for name in module.imports:
                inside = self._files_of(absolute(name, path))
                waiting.extend(inside)
                if not inside and not name.startswith("."):
                    packages.add(name.partition(".")[0])
            for data in module.files:
                if self.is_file(data):
                    files[data] = digest_bytes((self.root / data).read_bytes())
        return Closure(dict(sorted(files.items())), frozenset(packages - sys.stdlib_module_names))

    def _files_of(self, name: str) -> list[str]:
        """The project files that `import name` loads: the module and every package above it."""
        if name not in self._found:
            above, _, _ = name.rpartition(".")
            found = list(self._files_of(above)) if above else []
            if not above or self._is_folder(name.partition(".")[0]):
                base = name.replace(".", "/")
                found += [path for path in (f"{base}/__init__.py", f"{base}.py") if self.is_file(path)]
            self._found[name] = found
        return self._found[name]

    def _module(self, path: str) -> Module:
        status = (self.root / path).stat()
        stamp = [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, *sys.version_info[:2]]
        known = self._cache.get(path)
        if known is not None and known["stamp"] == stamp:
            return Module(known["digest"], tuple(known["imports"]), tuple(known["files"]))
        module = parse((self.root / path).read_bytes())
        self._cache[path] = {"stamp": stamp, "digest": module.digest, "imports": module.imports, "files": module.files}
        self._dirty = True
        return module

    def _load(self) -> dict[str, dict[str, Any]]:
        try:
            loaded = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return loaded if isinstance(loaded, dict) else {}


def absolute(name: str, importer: str) -> str:
    """`..lib.model` in stages/sub/a.py as `stages.lib.model`."""
    level = len(name) - len(name.lstrip("."))
    if level == 0:
        return name
    package = Path(importer).parts[:-level]
    return ".".join([*package, *[part for part in name.lstrip(".").split(".") if part]])


def parse(source: bytes) -> Module:
    """Digest, imports and FILES of one source text."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return Module(digest_bytes(source), (), ())
    files = tuple(_files(tree))
    imports: set[str] = set()
    for node in ast.walk(tree):
        imports.update(_imports(node))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return Module(digest_bytes(ast.dump(tree).encode()), tuple(sorted(imports)), files)


def _imports(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = "." * node.level + (node.module or "")
        yield base
        joint = "" if base.endswith(".") or not base else "."
        yield from (f"{base}{joint}{alias.name}" for alias in node.names if alias.name != "*")


def _files(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        names: list[ast.expr] = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        if any(isinstance(name, ast.Name) and name.id == "FILES" for name in names) and isinstance(node, ast.Assign | ast.AnnAssign):
            # A name of the user's own may hold anything: only a tuple or a list of texts names data files.
            items = node.value.elts if isinstance(node.value, ast.Tuple | ast.List) else []
            yield from (item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str))
