"""Includes: other files whose sections are laid over those of the manifest. Merges nodes; what is in them is read elsewhere.

An included value wins, as in forjar, with a warning that names both places; a later include wins over an earlier one.
`policy` and `secrets` are merged key by key, lists are joined. An include may include; a cycle is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from albor_pipeline.errors import Problems
from albor_pipeline.manifest.files import Files
from albor_pipeline.manifest.nodes import Node, Scalar, Sequence, Table, Text, shorten

BY_NAME = ("params", "machines", "resources", "outputs", "data", "checks", "environments")
BY_KEY = ("policy", "secrets")
LISTS = ("policies", "moved")
NOTE = 'an included file is a manifest: it has `version: "1.0"` and `name:`'


class Includes:
    """The includes of one manifest; every file is read once."""

    def __init__(self, text: Text, files: Files, problems: Problems, check: Callable[[Table], object]) -> None:
        self._text = text
        self._files = files
        self._problems = problems
        self._check = check
        self._seen: set[Path] = set()

    def merged(self, root: Table, path: Path) -> Table:
        """The manifest with everything that it includes; the nodes keep their own places."""
        return self._merged(root, (Path(os.path.normpath(path)),))

    def _merged(self, root: Table, chain: tuple[Path, ...]) -> Table:
        if root.get("includes") is None:
            return root
        result = Table(root.start)
        result.end = root.end
        result.items = {key: pair for key, pair in root.items.items() if key != "includes"}
        for node, path in self._listed(root):
            if path in chain:
                names = [self._files.shown(step) for step in (*chain[chain.index(path) :], path)]
                message = f"these files include each other: {' -> '.join(names)}"
                self._problems.error("include-cycle", message, self._text.of(node))
            elif path not in self._seen:
                self._seen.add(path)
                table = self._files.table(path, self._text.of(node), NOTE)
                if table is not None:
                    self._check(table)
                    self._lay(self._merged(table, (*chain, path)), result)
        return result

    def _listed(self, root: Table) -> Iterator[tuple[Scalar, Path]]:
        node = root.get("includes")
        if isinstance(node, Scalar) and node.is_null:
            return
        if not isinstance(node, Sequence):
            assert node is not None
            message = f"`includes` must be a list of paths, not {node.what}"
            self._problems.error("wrong-type", message, self._text.of(node))
            return
        listed: dict[Path, Scalar] = {}
        for item in node.items:
            if not isinstance(item, Scalar) or item.is_null or not item.text.strip() or "\0" in item.text:
                self._problems.error("wrong-value", "an include must be a path", self._text.of(item))
                continue
            path = Path(os.path.normpath(self._files.folder_of(item) / item.text))
            if path in listed:
                line = self._text.of(listed[path]).line
                message = f"`{shorten(item.text)}` is included twice"
                self._problems.error("duplicate-include", message, self._text.of(item), f"first at line {line}")
                continue
            listed[path] = item
            yield item, path

    def _lay(self, other: Table, result: Table) -> None:
        for key, (word, node) in other.items.items():
            mine = result.get(key)
            if key in BY_NAME or key in BY_KEY:
                if isinstance(mine, Table) and isinstance(node, Table):
                    node = self._united(key, mine, node, deep=key in BY_KEY)
            elif key in LISTS:
                if isinstance(mine, Sequence) and isinstance(node, Sequence):
                    joined = Sequence(mine.start)
                    joined.end, joined.items = mine.end, [*mine.items, *node.items]
                    node = joined
            else:
                continue
            if mine is not None and not _same_shape(mine, node):
                if isinstance(node, Scalar) and node.is_null:
                    continue
                if not (isinstance(mine, Scalar) and mine.is_null):
                    expected = "a list" if key in LISTS else "a mapping"
                    place = next(item for item in (mine, node) if item.what != expected)
                    message = f"`{key}` must be {expected}, not {place.what}"
                    self._problems.error("wrong-type", message, self._text.of(place))
            result.items[key] = (word, node)

    def _united(self, section: str, mine: Table, theirs: Table, *, deep: bool) -> Table:
        united = Table(mine.start)
        united.end, united.items = mine.end, dict(mine.items)
        for key, (word, node) in theirs.items.items():
            before = mine.items.get(key)
            if before is None:
                united.items[key] = (word, node)
            elif deep and isinstance(before[1], Table) and isinstance(node, Table):
                united.items[key] = (before[0], self._united(f"{section}.{key}", before[1], node, deep=True))
            else:
                united.items[key] = (word, node)
                place = self._text.of(word)
                message = f"`{section}.{shorten(key)}` of {place.source.name} takes the place of the one at {self._text.of(before[0])}"
                note = "of two equal names the included one is used; give one of them another name, or remove it"
                self._problems.warning("overridden", message, place, "this one is used", (note,))
        return united


def _same_shape(one: Node, other: Node) -> bool:
    return type(one) is type(other)
