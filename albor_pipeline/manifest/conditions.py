"""`when`: on which machines a resource is there at all. Compares text with text; knows no kind.

`true`, `false`, `A == B`, `A != B`, `A contains B`; an operand is a word, quoted text, or templates.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from albor_pipeline.manifest.nodes import Node, Scalar, shorten
from albor_pipeline.manifest.schema import Reader
from albor_pipeline.manifest.scope import Scope
from albor_pipeline.manifest.template import EXPRESSION
from albor_pipeline.model.manifest import Machine
from albor_pipeline.resources.fields import Fields, Text

PIECE = re.compile(r"\{\{.*?\}\}|\"[^\"]*\"|'[^']*'|\s(==|!=|contains)\s|.", re.DOTALL)
MAX_TEXT = 4096
FORMS = "`when` is `true`, `false`, `A == B`, `A != B` or `A contains B`, with a blank on both sides of the sign"


class ConditionFields(Fields):
    """Where a resource is there at all."""

    when: Annotated[
        Text | None, Field(description="only on machines for which this holds, such as `{{machine.self.arch}} == x86_64`")
    ] = None


@dataclass(frozen=True)
class Condition:
    """One `when` with the scope that it is read in."""

    node: Node
    scope: Scope

    def holds(self, machine: Machine, reader: Reader) -> bool:
        """Whether it holds on this machine; what is wrong is noted, and then it holds."""
        if not reader.is_sound(self.node):
            return True
        before, self.scope.current = self.scope.current, machine
        try:
            return self._holds(reader)
        finally:
            self.scope.current = before

    def _holds(self, reader: Reader) -> bool:
        if not isinstance(self.node, Scalar):
            span = reader.text.of(self.node)
            reader.problems.error("wrong-type", f"`when` must be text, not {self.node.what}", span, "", (FORMS,))
            reader.spoil(self.node)
            return True
        if len(self.node.text) > MAX_TEXT:
            return self._wrong(reader, f"is longer than {MAX_TEXT:,} characters", shorten(self.node.text))
        parts, sign = _split(self.node.text)
        if parts is None:
            return self._wrong(reader, "compares more than once", self.node.text)
        values, before = [], 0
        for part in parts:
            values.append(_unquoted(reader.resolved(self.node, part.strip(), self.scope, before), part.strip()))
            before += sum(1 for _ in EXPRESSION.finditer(part))
        if not reader.is_sound(self.node):
            return True
        if sign is None:
            if values[0] not in ("true", "false"):
                return self._wrong(reader, "is no condition", values[0])
            return values[0] == "true"
        left, right = values
        return right in left if sign == "contains" else (left == right) == (sign == "==")

    def _wrong(self, reader: Reader, what: str, text: str) -> bool:
        notes = (FORMS, *reader.notes_of(self.node))
        reader.problems.error("wrong-value", f"`when: {text}` {what}", reader.text.of(self.node), "", notes)
        reader.spoil(self.node)
        return True


def _split(text: str) -> tuple[list[str] | None, str | None]:
    """The operands and the sign between them; None when there are two signs."""
    parts, sign = [""], None
    for match in PIECE.finditer(text):
        if match[1] is None:
            parts[-1] += match[0]
        elif sign is not None:
            return None, None
        else:
            sign = match[1]
            parts.append("")
    return parts, sign


def _unquoted(value: str, written: str) -> str:
    quoted = len(written) > 1 and written[0] == written[-1] and written[0] in "\"'"
    return value[1:-1] if quoted else value
