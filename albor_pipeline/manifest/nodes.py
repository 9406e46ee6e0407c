"""YAML text as a tree of nodes that know where they stand. Knows no manifest: neither keys nor types, only text and shape.

The events come from libyaml (PyYAML's CParser); the tree is ours, because it must keep the raw text of scalars (`0644` stays
`0644`), find duplicate keys, and stop at a depth and a size that no honest manifest reaches, before the memory does.
"""

from __future__ import annotations

import gc
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import yaml
from yaml._yaml import CParser
from yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from albor_pipeline.errors import Problems, Source, Span

MERGE_NOTE = "what several resources share: `for_each`, a recipe, or `includes`; a whole value can be repeated with `*name`"
MAX_DEPTH = 64
MAX_NODES = 1_000_000
NULLS = frozenset(("", "~", "null", "Null", "NULL"))
STRING_TAGS = ("!", "tag:yaml.org,2002:str")


class Scalar:
    """Text as written; `quoted` is False only for a plain scalar, the only form that may be a number, a bool or null."""

    __slots__ = ("end", "quoted", "start", "text")
    what = "text"

    def __init__(self, text: str, quoted: bool, start: int, end: int) -> None:
        self.text = text
        self.quoted = quoted
        self.start = start
        self.end = end

    @property
    def is_null(self) -> bool:
        return not self.quoted and self.text in NULLS


class Sequence:
    """A list of nodes in the order written."""

    __slots__ = ("end", "items", "start")
    what = "a list"

    def __init__(self, start: int) -> None:
        self.start = start
        self.end = start
        self.items: list[Node] = []


class Table:
    """A mapping: key text -> (key node, value node), in the order written; the first of two equal keys is kept."""

    __slots__ = ("end", "items", "start")
    what = "a mapping"

    def __init__(self, start: int) -> None:
        self.start = start
        self.end = start
        self.items: dict[str, tuple[Scalar, Node]] = {}

    def get(self, key: str) -> Node | None:
        """The value under `key`, or None."""
        pair = self.items.get(key)
        return None if pair is None else pair[1]


Node = Scalar | Sequence | Table


class Text:
    """The sources of one manifest, laid end to end, so that an offset names the file too and becomes a Span only when asked."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._sources = [source]
        self._bases = [0]
        self._starts: dict[int, list[int]] = {}

    def add(self, source: Source) -> int:
        """Lay another source behind the last one; the offset at which it begins."""
        base = self._bases[-1] + len(self._sources[-1].text) + 1
        self._sources.append(source)
        self._bases.append(base)
        return base

    def at(self, offset: int) -> tuple[Source, int]:
        """The source that holds an offset, and where that source begins."""
        index = bisect_right(self._bases, offset) - 1
        return self._sources[index], self._bases[index]

    def _lines(self, source: Source, base: int) -> list[int]:
        if base not in self._starts:
            starts, text, at = [0], source.text, 0
            while (at := text.find("\n", at) + 1) > 0:
                starts.append(at)
            self._starts[base] = starts
        return self._starts[base]

    def span(self, start: int, end: int) -> Span:
        """The Span of characters start..end, cut at the end of the first line; at least one character long."""
        source, base = self.at(start)
        starts = self._lines(source, base)
        start, end = start - base, end - base
        index = bisect_right(starts, start) - 1
        begin = starts[index]
        following = starts[index + 1] - 1 if index + 1 < len(starts) else len(source.text)
        stop = min(end, following)
        if stop == following:
            stop = start + len(source.text[start:stop].rstrip())
        return Span(source, index + 1, start - begin + 1, max(1, stop - start))

    def of(self, node: Node) -> Span:
        """The Span of a node."""
        return self.span(node.start, node.end)


class NodeSpans(Mapping[str, Span]):
    """Dotted path (`inputs.0`, `config.optimizer.lr`) -> Span of that value, found in the node tree when asked."""

    __slots__ = ("_names", "_table", "_text")

    def __init__(self, text: Text, table: Table, names: Mapping[str, str]) -> None:
        self._text = text
        self._table = table
        self._names = names

    def __getitem__(self, path: str) -> Span:
        node = self._find(self._table, path.split("."))
        if node is None:
            raise KeyError(path)
        return self._text.of(node)

    def _find(self, node: Node | None, words: list[str]) -> Node | None:
        if not words or node is None:
            return node
        if isinstance(node, Table):
            for count in range(1, len(words) + 1):
                name = ".".join(words[:count])
                child = node.get(name) or node.get(self._names.get(name, name))
                if child is not None:
                    return self._find(child, words[count:])
        elif isinstance(node, Sequence) and words[0].isdecimal() and int(words[0]) < len(node.items):
            return self._find(node.items[int(words[0])], words[1:])
        return None

    def __iter__(self) -> Iterator[str]:
        return iter(_paths(self._table, ""))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Elsewhere(Mapping[str, Span]):
    """Spans, of which some stand at another path than the one that they are asked by."""

    __slots__ = ("_paths", "_spans")

    def __init__(self, spans: Mapping[str, Span], paths: Mapping[str, str]) -> None:
        self._spans = spans
        self._paths = paths

    def __getitem__(self, path: str) -> Span:
        return self._spans[self._paths.get(path, path)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)


def _paths(node: Node, prefix: str) -> Iterator[str]:
    pairs: Iterator[tuple[str, Node]]
    if isinstance(node, Table):
        pairs = ((key, pair[1]) for key, pair in node.items.items())
    elif isinstance(node, Sequence):
        pairs = ((str(index), item) for index, item in enumerate(node.items))
    else:
        return
    for word, child in pairs:
        yield prefix + word
        yield from _paths(child, f"{prefix}{word}.")


class _Stop(Exception):
    """The tree cannot be built further; the problem is already noted."""


@contextmanager
def without_collector() -> Iterator[None]:
    """Switch the cyclic collector off for a while: it walks a growing tree without cycles, which costs nine tenths of the time.

    What was made is frozen, else the first collection afterwards would walk all of it.
    """
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.freeze()
            gc.enable()


def _end(event: Any) -> int:
    return int(event.end_mark.index)


class _Composer:
    """Builds the tree from events; every limit that keeps a hostile file harmless is here."""

    def __init__(self, text: Text, problems: Problems, base: int) -> None:
        self._text = text
        self._problems = problems
        self._base = base
        self._next: Any = CParser(text.at(base)[0].text).get_event
        self._anchors: dict[str, tuple[Node, int] | None] = {}
        self._count = 0

    def document(self) -> Node | None:
        """The one document of the stream, or None when the stream is empty."""
        self._next()
        event = self._next()
        if not isinstance(event, yaml.DocumentStartEvent):
            return None
        node = self._node(self._next(), 0)
        self._next()
        more: Any = self._next()
        if type(more) is yaml.DocumentStartEvent:
            self._fail("yaml", "a manifest is one YAML document; a second one starts here", _end(more))
        return node

    def _fail(self, code: str, message: str, start: int, length: int = 1) -> NoReturn:
        start += self._base
        self._problems.error(code, message, self._text.span(start, start + length))
        raise _Stop

    def _node(self, event: Any, depth: int) -> Node:
        self._count += 1
        if self._count > MAX_NODES:
            self._fail("too-large", f"a manifest holds at most {MAX_NODES:,} values", event.start_mark.index)
        kind = type(event)
        if kind is AliasEvent:
            return self._alias(event)
        before = self._count
        anchor = event.anchor
        if anchor is not None:
            self._anchors[anchor] = None
        if event.tag is not None and not (kind is ScalarEvent and event.tag in STRING_TAGS):
            self._fail("yaml", f"YAML tags are not part of the format: `{event.tag}`", event.start_mark.index)
        if kind is ScalarEvent:
            quoted = bool(event.style) or event.tag is not None
            base = self._base
            node: Node = Scalar(event.value, quoted, base + event.start_mark.index, base + event.end_mark.index)
        elif depth >= MAX_DEPTH:
            self._fail("too-deep", f"values are nested more than {MAX_DEPTH} deep", event.start_mark.index)
        elif kind is MappingStartEvent:
            node = self._table(event, depth + 1)
        else:
            assert kind is SequenceStartEvent
            node = self._sequence(event, depth + 1)
        if anchor is not None:
            self._anchors[anchor] = (node, self._count - before + 1)
        return node

    def _alias(self, event: Any) -> Node:
        if event.anchor not in self._anchors:
            self._fail("yaml", f"`*{event.anchor}` has no anchor `&{event.anchor}` before it", event.start_mark.index)
        known = self._anchors[event.anchor]
        if known is None:
            self._fail("yaml", f"`*{event.anchor}` stands inside its own anchor", event.start_mark.index)
        self._count += known[1]
        return known[0]

    def _sequence(self, event: Any, depth: int) -> Sequence:
        node = Sequence(self._base + event.start_mark.index)
        add, following = node.items.append, self._next
        while type(event := following()) is not SequenceEndEvent:
            add(self._node(event, depth))
        node.end = self._base + _end(event)
        return node

    def _table(self, event: Any, depth: int) -> Table:
        node = Table(self._base + event.start_mark.index)
        items, following = node.items, self._next
        while type(event := following()) is not MappingEndEvent:
            key = self._node(event, depth)
            if not isinstance(key, Scalar):
                self._fail("yaml", f"a key must be text, not {key.what}", event.start_mark.index)
            value = self._node(following(), depth)
            if key.text == "<<" and not key.quoted:
                self._problems.error("merge-key", "merge keys are not part of the format", self._text.of(key), "", (MERGE_NOTE,))
            elif key.text in items:
                self._duplicate(items[key.text][0], key)
            else:
                items[key.text] = (key, value)
        node.end = self._base + _end(event)
        return node

    def _duplicate(self, first: Scalar, second: Scalar) -> None:
        line = self._text.of(first).line
        self._problems.error(
            "duplicate-key",
            f"`{shorten(second.text)}` is declared twice",
            self._text.of(second),
            f"first at line {line}",
        )


def shorten(text: str, limit: int = 60) -> str:
    """Text of the user for a message: one line, bounded."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 3] + "..."


def compose(text: Text, problems: Problems, base: int = 0) -> Node | None:
    """The tree of the source that begins at `base`, or None when it is empty or cannot be read; what is wrong goes to `problems`.

    Never raises for any text. Costs about the time that libyaml needs for its events.
    """
    try:
        with without_collector():
            return _Composer(text, problems, base).document()
    except _Stop:
        return None
    except yaml.MarkedYAMLError as error:
        _syntax(text, error, problems, base)
    except yaml.YAMLError as error:
        offset = getattr(error, "position", 0) or 0
        at = base + len(text.at(base)[0].text.encode()[:offset].decode(errors="ignore"))
        code = getattr(error, "character", 0)
        problems.error("yaml", f"the character U+{code:04X} cannot stand in YAML", text.span(at, at + 1))
    except UnicodeEncodeError as error:
        problems.error(
            "yaml", "half of a surrogate pair cannot stand in YAML", text.span(base + error.start, base + error.end)
        )
    return None


def _syntax(text: Text, error: yaml.MarkedYAMLError, problems: Problems, base: int) -> None:
    mark: Any = error.problem_mark or error.context_mark
    start = mark.index if mark is not None else 0
    label, begun = error.problem or "", getattr(error, "context_mark", None)
    if text.at(base)[0].text[start : start + 1] == "\t":
        label = "a tab cannot indent; use spaces"
    notes = []
    if begun is not None and begun.index != start:
        notes.append(f"{error.context}, which starts at line {begun.line + 1}")
    problems.error("yaml", "this is not YAML", text.span(base + start, base + start + 1), label, notes)
