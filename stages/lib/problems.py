"""What is wrong in a configuration, where, and the way out, as text and as JSON; reads no file and knows no stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any


@dataclass(frozen=True)
class Span:
    """A place in a text: line and column count from 1, width in characters."""

    line: int
    column: int
    width: int


@dataclass(frozen=True)
class Problem:
    """One fault: `code` in brackets, a sentence, its place, a hint under the caret, a note below."""

    code: str
    text: str
    file: str
    span: Span = Span(1, 1, 1)
    hint: str | None = None
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The form that `plan --batch` and `--json` show."""
        return {
            "code": self.code, "text": self.text, "file": self.file, "line": self.span.line,
            "column": self.span.column, "hint": self.hint, "note": self.note,
        }


class BadConfig(Exception):
    """All the faults of one configuration; `sources` maps each file to its lines."""

    def __init__(self, problems: Sequence[Problem], sources: dict[str, list[str]]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = sorted(problems, key=lambda p: (p.file, p.span.line, p.span.column, p.text))
        self.sources = sources

    def text(self, outcome: str) -> str:
        """Every problem with its lines and caret, then the count and `outcome`."""
        shown = [render(problem, self.sources.get(problem.file, [])) for problem in self.problems]
        number = len(self.problems)
        return "\n".join([*shown, f"{number} error{'' if number == 1 else 's'}. {outcome}\n"])


def render(problem: Problem, lines: Sequence[str]) -> str:
    """The problem as a block: sentence, place, the line before and the line itself, caret and hint, note."""
    span = problem.span
    out = [f"error[{problem.code}]: {problem.text}", f"  --> {problem.file}:{span.line}:{span.column}"]
    if 1 <= span.line <= len(lines):
        gutter = len(str(span.line))
        out.append(f"{'':{gutter}} |")
        shown = [n for n in (span.line - 1, span.line) if n >= 1]
        out += [f"{n:>{gutter}} | {lines[n - 1]}".rstrip() for n in shown]
        visible = max(1, min(span.width, len(lines[span.line - 1]) - span.column + 1))
        caret = f"{'':{gutter}} | {'':{span.column - 1}}{'^' * visible}"
        out.append(f"{caret} {problem.hint}" if problem.hint else caret)
        indent = f"{'':{gutter}} = "
    else:
        out += [f"   = {problem.hint}"] if problem.hint else []
        indent = "   = "
    out += [f"{indent}{problem.note}"] if problem.note else []
    return "\n".join(out) + "\n"


def did_you_mean(name: str, known: Sequence[str]) -> str | None:
    """A hint naming the closest known name, if one is close."""
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else None
