"""YAML or JSON text to plain values with the place of each; knows no schema, no stage, and opens no file.

A plain scalar is read by the YAML 1.2 core rules, so `010`, `1_000` and `yes` stay text for the schema to judge.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from stages.lib.problems import Problem, Span

Path = tuple[str | int, ...]
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?=\.?[0-9])(?:0|[1-9][0-9]*)?(?:\.[0-9]+|(?:\.[0-9]*)?[eE][-+]?[0-9]+)")
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_LONGEST_DIGITS = 40
_MOST_VALUES = 100_000
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Tree:
    """Values of one text, the place of every key and value, and the faults met on the way."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.keys: dict[Path, tuple[str, Span]] = {}
        self.values: dict[Path, tuple[str, Span]] = {}
        self.value: Any = None
        self._count = 0
        try:
            node = yaml.compose(text, _LOADER)
        except yaml.YAMLError as fault:
            self._syntax(fault)
            return
        except RecursionError:
            self.problems.append(Problem("syntax", "the nesting is too deep", file))
            return
        if node is not None:
            self.value = self._build(node, (), ())
        if self._count > _MOST_VALUES:
            text = f"more than {_MOST_VALUES:,} values; anchors may multiply them"
            self.value, self.problems = None, [Problem("syntax", text, file)]

    def span(self, path: Path, *, key: bool = False) -> tuple[str, Span]:
        """The file and place of what is at `path`, or of the closest thing around it that is there."""
        tables = (self.keys, self.values) if key else (self.values, self.keys)
        for length in range(len(path), -1, -1):
            for table in tables if length == len(path) else (self.keys, self.values):
                if path[:length] in table and (length or not path):
                    return table[path[:length]]
        return self.file, Span(1, 1, 1)

    def put(self, path: Path, other: Tree) -> None:
        """Let `other`'s places stand for what was at `path`."""
        for table in (self.keys, self.values):
            for known in [p for p in table if p[: len(path)] == path]:
                del table[known]
        self.values.update({path + p: place for p, place in other.values.items()})
        self.keys.update({path + p: place for p, place in other.keys.items()})

    def _build(self, node: yaml.Node, path: Path, above: tuple[int, ...]) -> Any:
        self._count += 1
        if self._count > _MOST_VALUES:
            return None
        self.values[path] = self.file, _span(node)
        if id(node) in above:
            self._problem("syntax", "this value contains itself", node)
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, (*above, id(node)))
        if isinstance(node, yaml.SequenceNode):
            return [self._build(item, (*path, n), (*above, id(node))) for n, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode), "YAML has three kinds of node"
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: Path, above: tuple[int, ...]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem("bad-key", "a key is a single word", key_node)
                continue
            key = key_node.value
            if key in result:
                first = self.keys[(*path, key)][1]
                self._problem("duplicate-key", f"`{key}` is given twice", key_node, f"first at line {first.line}")
                continue
            self.keys[(*path, key)] = self.file, _span(key_node)
            result[key] = self._build(value_node, (*path, key), above)
        return result

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text = node.value
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python"):
            self._problem("bad-value", f"the tag `{node.tag}` means nothing here", node)
            return None
        asked_for_text = node.tag == "tag:yaml.org,2002:str" and (text in _WORDS or _INT.fullmatch(text))
        if node.style in ("'", '"', "|", ">") or asked_for_text:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INT.fullmatch(text) and len(text) <= _LONGEST_DIGITS:
            return int(text)
        return float(text) if _FLOAT.fullmatch(text) else text

    def _syntax(self, fault: yaml.YAMLError) -> None:
        mark = getattr(fault, "problem_mark", None) or getattr(fault, "context_mark", None)
        what = getattr(fault, "problem", None) or getattr(fault, "reason", None) or "cannot be read"
        span = Span(mark.line + 1, mark.column + 1, 1) if mark else Span(1, 1, 1)
        self.problems.append(Problem("syntax", f"not YAML: {what}", self.file, span))

    def _problem(self, code: str, text: str, node: yaml.Node, hint: str | None = None) -> None:
        self.problems.append(Problem(code, text, self.file, _span(node), hint))


def parse(text: str, file: str) -> Tree:
    """The tree of `text`; a file named *.json is read as JSON for its values, and its places are best effort."""
    tree = Tree(text, file)
    if not file.endswith(".json"):
        return tree
    try:
        value = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as fault:
        line, column = getattr(fault, "lineno", 1), getattr(fault, "colno", 1)
        reason = getattr(fault, "msg", "the nesting is too deep")
        tree.problems = [Problem("syntax", f"not JSON: {reason}", file, Span(line, column, 1))]
        return tree
    tree.problems = [p for p in tree.problems if p.code == "duplicate-key"]
    tree.value = value
    return tree


def _span(node: yaml.Node) -> Span:
    start, end = node.start_mark, node.end_mark
    width = end.column - start.column if end.line == start.line else 1_000_000
    return Span(start.line + 1, start.column + 1, max(1, width))
