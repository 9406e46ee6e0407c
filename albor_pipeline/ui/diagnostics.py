"""The text of diagnostics: the sentence, the place, the line above, the line itself with a caret, what is allowed. Knows no YAML.

Text of the user is shown, never obeyed: control and direction characters are written out, so a manifest cannot paint over its
own errors; tabs and wide characters are counted by the columns they take; of a very long line only the part around the caret.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from albor_pipeline.errors import Diagnostic, Source, Span
from albor_pipeline.model import addresses

TAB_COLUMNS = 4
MAX_COLUMNS = 120
MAX_SHOWN = 1_000
BEFORE_CARET = 60
CUT = "..."
RESET = "\x1b[0m"
COLOURS = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m", "bold": "\x1b[1m", "gutter": "\x1b[34m"}
INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")


class _Shown(NamedTuple):
    """A line as shown, and from where to where the caret goes, in terminal columns."""

    text: str
    start: int
    stop: int


def render_all(diagnostics: Iterable[Diagnostic], *, colour: bool = False) -> str:
    """All of them, a blank line between two, with a newline at the end; nothing for none. Of thousands the first are shown."""
    lines: dict[int, list[str]] = {}
    told = list(diagnostics)
    blocks = [_render(item, colour, lines) for item in told[:MAX_SHOWN]]
    if len(told) > MAX_SHOWN:
        blocks.append(f"... and {len(told) - MAX_SHOWN:,} more, not shown")
    return "\n".join(f"{block}\n" for block in blocks)


def render(diagnostic: Diagnostic, *, colour: bool = False) -> str:
    """One diagnostic, without a newline at the end."""
    return _render(diagnostic, colour, {})


def summary(diagnostics: Iterable[Diagnostic], outcome: str) -> str:
    """`2 errors, 1 warning. Nothing was planned.`: how many there are, and what became of the command."""
    levels = [item.level for item in diagnostics]
    counts = [(levels.count(level), level) for level in ("error", "warning")]
    words = ", ".join(f"{count:,} {level}{'s' if count > 1 else ''}" for count, level in counts if count)
    return f"{words}. {outcome}" if words else outcome


def visible(text: str) -> str:
    """The text on one line with every control and direction character written out as <U+202E>, and no password of an address."""
    text = addresses.shown(text)
    if text.isascii() and text.isprintable():
        return text
    return "".join(_glyph(letter) for letter in text)


def _glyph(letter: str) -> str:
    if letter in "\t\n":
        return " "
    return f"<U+{ord(letter):04X}>" if unicodedata.category(letter) in INVISIBLE else letter


def _render(item: Diagnostic, colour: bool, cache: dict[int, list[str]]) -> str:
    def paint(text: str, name: str) -> str:
        return f"{COLOURS[name]}{text}{RESET}" if colour else text

    level = item.level if item.level in COLOURS else "error"
    out = [paint(f"{item.level}[{item.code}]", level) + paint(f": {visible(item.message)}", "bold")]
    width = 1
    if item.span is not None:
        width = len(str(item.span.line))
        shown = _source_lines(item.span, width, cache)
        gutter = " " * (width + 1) + "|"
        out.append(paint(f"{' ' * width}--> ", "gutter") + visible(str(item.span)))
        out.append(paint(gutter, "gutter"))
        for number, line in shown.context:
            out.append(f"{paint(f'{number:>{width}} |', 'gutter')} {line}".rstrip())
        caret = "^" * (shown.line.stop - shown.line.start)
        label = f" {visible(item.label)}" if item.label else ""
        out.append(paint(gutter, "gutter") + " " + " " * shown.line.start + paint(caret + label, level))
    out += [paint(" " * (width + 1) + "=", "gutter") + f" {visible(note)}" for note in item.notes]
    return "\n".join(out)


class _Excerpt(NamedTuple):
    """The numbered lines to show, the last of which is the one with the caret."""

    context: list[tuple[int, str]]
    line: _Shown


def _source_lines(span: Span, width: int, cache: dict[int, list[str]]) -> _Excerpt:
    lines = _lines(span.source, cache)
    text = lines[span.line - 1] if 0 < span.line <= len(lines) else ""
    line = _show(text, span.column - 1, span.column - 1 + span.length)
    context = [(span.line, line.text)]
    if span.line > 1 and lines[span.line - 2].strip():
        context.insert(0, (span.line - 1, _show(lines[span.line - 2], 0, 0).text))
    return _Excerpt(context, line)


def _lines(source: Source, cache: dict[int, list[str]]) -> list[str]:
    if id(source) not in cache:
        cache[id(source)] = [line.rstrip("\r") for line in addresses.blotted(source.text).split("\n")]
    return cache[id(source)]


def _show(text: str, start: int, stop: int) -> _Shown:
    """The line with the characters start..stop placed in columns; a long line is cut around them."""
    begin = max(0, start - BEFORE_CARET) if len(text) > MAX_COLUMNS else 0
    end = begin + MAX_COLUMNS
    if (part := text[begin:end]).isascii() and part.isprintable():
        return _show_plain(part, begin, len(text) - begin, start, stop)
    cells = [CUT] if begin else []
    column = len(CUT) if begin else 0
    at = {}
    for index, letter in enumerate(text[begin:end], start=begin):
        at[index] = column
        cell = " " * (TAB_COLUMNS - column % TAB_COLUMNS) if letter == "\t" else _glyph(letter)
        cells.append(cell)
        column += sum(map(_columns, cell))
    if end < len(text):
        cells.append(CUT)
    first = at.get(start, column)
    last = at.get(stop, column)
    return _Shown("".join(cells).rstrip(), first, max(last, first + 1))


def _show_plain(part: str, begin: int, left: int, start: int, stop: int) -> _Shown:
    """A part of a line in which every letter is one column wide; `left` letters of the line stand from its beginning on."""
    head = len(CUT) if begin else 0
    column = head + len(part)
    first = head + start - begin if 0 <= start - begin < len(part) else column
    last = head + stop - begin if 0 <= stop - begin < len(part) else column
    cut = CUT if left > len(part) else ""
    return _Shown(f"{CUT if begin else ''}{part}{cut}".rstrip(), first, max(last, first + 1))


def _columns(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
