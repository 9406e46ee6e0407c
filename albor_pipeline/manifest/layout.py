"""The canonical layout of a manifest: order of keys, indentation, blank lines. Moves whole lines; changes no value and no comment.

A line moves with the comments above it and is rewritten only in its indentation, so quotes, folds and every other choice of the
author stay. (A round trip through a YAML library ties a comment to the key *before* it, so that it goes astray when keys move.)
What comes out is read again: where it does not mean the same, less is changed, in the end nothing.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise

from albor_pipeline.errors import ManifestError, Problems, Source
from albor_pipeline.manifest import nodes
from albor_pipeline.manifest.nodes import Node, Scalar, Table, Text, compose
from albor_pipeline.manifest.order import order_at

STEP = 2
BREAKS = re.compile(r"\r\n?|\n")
BLOCK_TEXT = re.compile(r"[|>]([0-9]?)([+-]?)([0-9]?)")
DASH = re.compile(r"- *(?=\S)|-$")
Lines = list["_Line"]


def formatted(source: Source) -> str:
    """The text of a manifest in canonical layout; it means the same and holds the same comments.

    Raises ManifestError when the text is no YAML; a text of no shape that a manifest has comes back as it is.
    """
    text = BREAKS.sub("\n", source.text)
    tree = _tree(Source(source.name, text))
    if not isinstance(tree, Table):
        return text
    for order in (True, False):
        with suppress(_Unmovable):
            made = _Layout(text, order).of(tree)
            for candidate in (made, made.removesuffix("\n")):
                if _means_the_same(tree, Source(source.name, candidate)):
                    return candidate
    return text


def _tree(source: Source) -> Node | None:
    problems = Problems()
    tree = compose(Text(source), problems)
    if problems.errors:
        raise ManifestError(problems)
    return tree


def _means_the_same(tree: Node, made: Source) -> bool:
    try:
        return same(tree, _tree(made))
    except ManifestError:
        return False


def same(one: Node | None, other: Node | None) -> bool:
    """Whether two trees mean the same: equal keys in any order, equal items, equal texts, quoted or not alike."""
    if isinstance(one, Table) and isinstance(other, Table):
        return one.items.keys() == other.items.keys() and all(same(pair[1], other.get(key)) for key, pair in one.items.items())
    if isinstance(one, nodes.Sequence) and isinstance(other, nodes.Sequence):
        return len(one.items) == len(other.items) and all(map(same, one.items, other.items))
    if isinstance(one, Scalar) and isinstance(other, Scalar):
        return (one.text, one.quoted) == (other.text, other.quoted)
    return one is None and other is None


class _Unmovable(Exception):
    """A block has a form whose lines cannot be moved one by one."""


@dataclass(frozen=True)
class _Line:
    """A line to write; one that is `kept` lies inside a text, where blank lines count; after an `open` one they would become text."""

    text: str
    kept: bool = False
    open: bool = False


@dataclass(frozen=True)
class _Entry:
    """A key or an item: its lines are start..stop, its value ends before `end`, comments that belong to it lie above from `lead` on."""

    name: str
    value: Node
    lead: int
    start: int
    end: int
    stop: int


class _Layout:
    """One text on its way; line numbers count from 0, ranges exclude their end."""

    def __init__(self, text: str, order: bool) -> None:
        self._text = text
        self._order = order
        self._lines = text.removesuffix("\n").split("\n")
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line) + 1)

    def of(self, root: Table) -> str:
        """The whole text."""
        if self._is_flow(root) or not root.items:
            raise _Unmovable
        first = self._line(next(iter(root.items.values()))[0].start)
        head = [_Line(line.rstrip()) for line in self._lines[:first]]
        body = self._table(root, first, len(self._lines), 0, ())
        return "".join(f"{line}\n" for line in _trimmed([*head, *body]))

    def _line(self, offset: int) -> int:
        return bisect_right(self._starts, offset) - 1

    def _column(self, offset: int) -> int:
        return offset - self._starts[self._line(offset)]

    def _indent(self, number: int) -> int:
        line = self._lines[number]
        return len(line) - len(line.lstrip(" "))

    def _is_flow(self, node: Node) -> bool:
        return self._text[node.start : node.start + 1] in ("{", "[")

    def _is_block(self, node: Node, begin: int, stop: int) -> bool:
        """Whether the node is a mapping or a list in lines of its own, and stands in these lines: an alias stands elsewhere."""
        if isinstance(node, Scalar) or not node.items or not begin <= self._line(node.start) < stop:
            return False
        return self._text[node.start] not in "{[&*!"

    def _table(self, table: Table, begin: int, stop: int, indent: int, path: tuple[str, ...], first: int = -1) -> Lines:
        """A mapping in block form; `first` is the line whose key stands behind a dash."""
        keys = [key for key, _ in table.items.values()]
        column = self._column(keys[0].start)
        places = [self._line(key.start) for key in keys]
        for key, place in zip(keys, places, strict=True):
            own = place == first or self._indent(place) == self._column(key.start)
            if not own or self._column(key.start) != column or self._lines[place][column] in "?&*!":
                raise _Unmovable
        named = zip(table.items, (pair[1] for pair in table.items.values()), places, strict=True)
        entries, tail = self._entries(list(named), begin, stop, column)
        if self._order:
            order = {name: index for index, name in enumerate(order_at(path, table))}
            entries.sort(key=lambda entry: order.get(entry.name, len(order)))
        lines: Lines = []
        before = False
        for entry in entries:
            lead = self._comments(entry.lead, entry.start, indent)
            block = not path and self._is_block(entry.value, entry.start, entry.stop)
            if not lines:
                lead = _without_blanks(lead)
            elif block or before:
                lead = [_Line(""), *_without_blanks(lead)]
            before = block
            lines += lead
            lines += self._entry(entry, column, indent, (*path, entry.name), " " * indent, self._lines[entry.start][column:])
        return [*lines, *self._comments(*tail, indent)]

    def _sequence(self, sequence: nodes.Sequence, begin: int, stop: int, indent: int, path: tuple[str, ...]) -> Lines:
        """A list in block form."""
        column = self._column(sequence.start)
        places = [number for number in range(begin, stop) if self._indent(number) == column and DASH.match(self._lines[number].strip())]
        if len(places) != len(sequence.items) or places[0] != self._line(sequence.start):
            raise _Unmovable
        items = [("-", item, place) for item, place in zip(sequence.items, places, strict=True)]
        entries, tail = self._entries(items, begin, stop, column)
        lines: Lines = []
        for entry in entries:
            lead = self._comments(entry.lead, entry.start, indent)
            lines += lead if lines else _without_blanks(lead)
            lines += self._item(entry, column, indent, path)
        return [*lines, *self._comments(*tail, indent)]

    def _item(self, entry: _Entry, column: int, indent: int, path: tuple[str, ...]) -> Lines:
        written = self._lines[entry.start].rstrip()
        dash = DASH.match(written, column)
        inside = self._is_block(entry.value, entry.start, entry.stop)
        if dash and inside and isinstance(entry.value, Table) and self._line(entry.value.start) == entry.start:
            body = self._table(entry.value, entry.start, entry.stop, indent + STEP, (*path, "-"), entry.start)
            return [_Line(f"{' ' * indent}- {body[0].text.lstrip()}"), *body[1:]]
        if dash and inside and self._line(entry.value.start) == entry.start:
            raise _Unmovable
        rest = written[dash.end() :] if dash else ""
        return self._entry(entry, column, indent, (*path, "-"), f"{' ' * indent}-{' ' if rest else ''}", rest)

    def _entry(self, entry: _Entry, column: int, indent: int, path: tuple[str, ...], lead: str, text: str) -> Lines:
        """One key or item: its first line is `lead` and `text`, then its value."""
        head = _Line(lead + text.rstrip())
        if self._is_block(entry.value, entry.start + 1, entry.stop):
            with suppress(_Unmovable):
                return [head, *self._block(entry, indent + STEP, path)]
        shift = self._shift(entry, column, indent)
        block = self._block_text(entry.value, entry.start)
        is_open = block is not None and "+" in block[2]
        inner = [_Line(self._moved(number, shift), True, is_open) for number in range(entry.start + 1, entry.end)]
        below = self._comments(entry.end, entry.stop, indent + (STEP if block is None else 1))
        return [_Line(head.text, False, is_open), *inner, *below]

    def _block(self, entry: _Entry, indent: int, path: tuple[str, ...]) -> Lines:
        if isinstance(entry.value, Table):
            return self._table(entry.value, entry.start + 1, entry.stop, indent, path)
        assert isinstance(entry.value, nodes.Sequence)
        return self._sequence(entry.value, entry.start + 1, entry.stop, indent, path)

    def _shift(self, entry: _Entry, column: int, indent: int) -> int:
        """How far the lines of a text move: as the key does; a block text without an indentation of its own to a step below it."""
        block = self._block_text(entry.value, entry.start)
        shown = [self._indent(number) for number in range(entry.start + 1, entry.end) if self._lines[number].strip()]
        if block is None or block[1] or block[3] or not shown:
            return indent - column
        return indent + STEP - shown[0]

    def _moved(self, number: int, shift: int) -> str:
        line = self._lines[number]
        if shift >= 0:
            return " " * shift + line if line else line
        return line[min(-shift, self._indent(number)) :]

    def _block_text(self, value: Node, start: int) -> re.Match[str] | None:
        if not isinstance(value, Scalar) or not value.quoted or self._line(value.start) < start:
            return None
        return BLOCK_TEXT.match(self._text, value.start)

    def _comments(self, begin: int, stop: int, indent: int) -> Lines:
        """Comments and blank lines at a new indentation; markers such as `...` stay at the margin."""
        found = [self._lines[number].strip() for number in range(begin, stop)]
        return [_Line((" " * indent if text.startswith("#") else "") + text) for text in found]

    def _entries(self, items: list[tuple[str, Node, int]], begin: int, stop: int, column: int) -> tuple[list[_Entry], tuple[int, int]]:
        """The entries with the lines that belong to each, and the lines at the end that belong to the block."""
        found: list[_Entry] = []
        lead = begin
        bounds = [*(place for _, _, place in items), stop]
        if any(after <= before for before, after in pairwise(bounds)):
            raise _Unmovable
        for (name, value, start), limit in zip(items, bounds[1:], strict=True):
            end = self._end(value, start, limit, column)
            own = self._own(end, limit, column)
            found.append(_Entry(name, value, lead, start, end, own))
            lead = own
        return found, (lead, stop)

    def _own(self, begin: int, stop: int, column: int) -> int:
        """The line after the last comment that is indented deeper than the block and comes before any other."""
        own = begin
        for number in range(begin, stop):
            text = self._lines[number].strip()
            if text and (self._indent(number) <= column or not text.startswith("#")):
                break
            own = number + 1 if text else own
        return own

    def _end(self, value: Node, start: int, limit: int, column: int) -> int:
        """The line after the last line of a value that begins in or after line `start`."""
        if not start <= self._line(value.start) < limit:
            return start + 1
        block = self._block_text(value, start)
        if block is not None:
            own = block[1] or block[3]
            return self._end_of_text(self._line(value.start), limit, column + int(own) if own else None, column, "+" in block[2])
        if isinstance(value, Scalar) or self._is_flow(value):
            return max(start, min(self._line(max(value.start, value.end - 1)), limit - 1)) + 1
        children = [pair[1] for pair in value.items.values()] if isinstance(value, Table) else value.items
        starts = [pair[0].start for pair in value.items.values()] if isinstance(value, Table) else [item.start for item in children]
        inside = [(child, place) for child, place in zip(children, starts, strict=True) if start <= self._line(place) < limit]
        if not inside:
            return start + 1
        child, place = inside[-1]
        return self._end(child, self._line(place), limit, self._column(value.start))

    def _end_of_text(self, start: int, limit: int, inside: int | None, column: int, keep: bool) -> int:
        """The line after a block text whose lines stand at `inside`, or where the first of them stands; less deep is a comment."""
        end = start + 1
        for number in range(start + 1, limit):
            blank, indent = not self._lines[number].strip(), self._indent(number)
            if not blank and (indent <= column if inside is None else indent < inside):
                break
            inside = indent if inside is None and not blank else inside
            end = number + 1 if keep or not blank else end
        return end


def _without_blanks(lines: Lines) -> Lines:
    first = next((index for index, line in enumerate(lines) if line.text), len(lines))
    return lines[first:]


def _trimmed(lines: Lines) -> Iterator[str]:
    """No blank line at the beginning, one at most in between, none at the end; lines inside a text as they are."""
    waiting, before = False, _Line("", open=True)
    for line in lines:
        if not line.text and not line.kept:
            waiting = True
            continue
        if waiting and not before.open:
            yield ""
        waiting, before = False, line
        yield line.text
