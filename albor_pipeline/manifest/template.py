"""Templates: `{{params.x}}`, `{{upper(machine.self.addr)}}` in text; `{{{{` is two braces. Knows no nodes and no diagnostics.

One pass: what was put in is not looked at again. What may be named is the scope's, what may be called is in functions.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from albor_pipeline.manifest.functions import FUNCTIONS
from albor_pipeline.manifest.scope import NAMESPACES, Scope, Unresolved, environment
from albor_pipeline.model.manifest import told_mark

EXPRESSION = re.compile(r"\{\{\{\{|\{\{(.*?)\}\}|\{\{", re.DOTALL)
CALL = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*\(")
QUOTED = re.compile(r"\s*(?:\"([^\"]*)\"|'([^']*)')\s*")
WORD = re.compile(r"[^,()]*")
NAME = re.compile(r"[A-Za-z_][\w-]*(?:\.[\w./-]+)*")
MAX_DEPTH = 16
ESCAPE = "write `{{{{` where two braces are meant"
CALLABLE = ("default", "env", *FUNCTIONS)

Value = Callable[[Scope], str]


@dataclass(frozen=True)
class Fault:
    """A template that cannot be resolved: which one of the text it is, counted from 0, and what a diagnostic says."""

    number: int
    code: str
    message: str
    label: str = ""
    notes: tuple[str, ...] = ()


def _lookup(name: str, scope: Scope, *, in_call: bool) -> str:
    namespace, *words = name.split(".")
    if name in scope.told:
        return told_mark(name)
    if namespace not in NAMESPACES:
        told = (f"this notice is told: {', '.join(scope.told)}",) if scope.told else ()
        allowed = (f"a template starts with: {', '.join(NAMESPACES)}", *told, ESCAPE)
        raise Unresolved("template", f"`{name}` names nothing", scope.suggest.label(namespace, (*NAMESPACES, *scope.told)), allowed)
    if in_call and namespace == "secrets":
        raise Unresolved(
            "secret-place", "a function cannot be applied to a secret: its result would be no secret any more"
        )
    value = NAMESPACES[namespace](scope, words)
    scope.looked_up.append(name)
    return value


class _Call:
    """One expression with parentheses, read from left to right into functions of the scope."""

    def __init__(self, text: str, scope: Scope) -> None:
        self._text = text
        self._scope = scope
        self._at = 0

    def whole(self) -> Value:
        """The expression; nothing may stand after it."""
        value = self._value(0)
        rest = self._text[self._at :].strip()
        if rest:
            raise Unresolved("template", f"`{rest}` stands after the end of the call")
        return value

    def _value(self, depth: int) -> Value:
        if depth > MAX_DEPTH:
            raise Unresolved("template", f"calls are nested more than {MAX_DEPTH} deep")
        call = CALL.match(self._text, self._at)
        if call is not None:
            self._at = call.end()
            return self._call(call[1], depth)
        quoted = QUOTED.match(self._text, self._at)
        if quoted is not None:
            self._at = quoted.end()
            text = quoted[1] if quoted[1] is not None else quoted[2]
            return lambda scope: text
        match = WORD.match(self._text, self._at)
        assert match is not None
        self._at = match.end()
        word = match[0].strip()
        head = word.partition(".")[0]
        if NAME.fullmatch(word) and head in NAMESPACES and (head != word or head in ("item", "index")):
            return lambda scope: _lookup(word, scope, in_call=True)
        return lambda scope: word

    def _call(self, name: str, depth: int) -> Value:
        if name not in CALLABLE:
            label = self._scope.suggest.label(name, CALLABLE)
            notes = (f"functions: {', '.join(CALLABLE)}", ESCAPE)
            raise Unresolved("template", f"there is no function `{name}`", label, notes)
        arguments = self._arguments(depth)
        takes = {"default": ("text", "instead"), "env": ("NAME",)}.get(name) or FUNCTIONS[name].takes
        if len(arguments) != len(takes):
            given = f"{len(arguments)} {'was' if len(arguments) == 1 else 'were'} given"
            message = f"`{name}` takes {len(takes)} argument{'s' if len(takes) > 1 else ''}, {given}"
            raise Unresolved("template", message, "", (f"write `{name}({', '.join(takes)})`",))
        if name == "default":
            return lambda scope: _default(scope, *arguments)
        if name == "env":
            return lambda scope: environment(scope, arguments[0](scope))
        return lambda scope: _applied(name, [argument(scope) for argument in arguments])

    def _arguments(self, depth: int) -> list[Value]:
        if self._text[self._at :].lstrip().startswith(")"):
            self._at = self._text.index(")", self._at) + 1
            return []
        arguments: list[Value] = []
        while True:
            arguments.append(self._value(depth + 1))
            sign = self._text[self._at : self._at + 1]
            self._at += 1
            if sign == ")":
                self._skip_blanks()
                return arguments
            if sign != ",":
                raise Unresolved("template", "this call is not closed by `)`", "", (ESCAPE,))

    def _skip_blanks(self) -> None:
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1


def _applied(name: str, arguments: list[str]) -> str:
    try:
        return FUNCTIONS[name].call(*arguments)
    except ValueError as error:
        raise Unresolved("template", f"`{name}`: {error}") from None


def _default(scope: Scope, first: Value, instead: Value) -> str:
    try:
        return first(scope) or instead(scope)
    except Unresolved as error:
        if not error.missing:
            raise
        return instead(scope)


def evaluate(expression: str, scope: Scope) -> str:
    """The text of one expression, without its braces. Raises Unresolved."""
    if CALL.match(expression):
        return _Call(expression, scope).whole()(scope)
    return _lookup(expression.strip(), scope, in_call=False)


def resolve(text: str, scope: Scope) -> tuple[str, list[Fault]]:
    """The text with every template replaced, and the faults; a faulty template stays as written."""
    faults: list[Fault] = []
    numbers = count()

    def replace(match: re.Match[str]) -> str:
        written, number = match[0], next(numbers)
        if written == "{{{{":
            return "{{"
        if match[1] is None:
            faults.append(Fault(number, "template", "this template is not closed by `}}`", "", (ESCAPE,)))
            return written
        try:
            return evaluate(match[1], scope)
        except Unresolved as error:
            faults.append(Fault(number, error.code, error.message, error.label, error.notes))
            return written

    return EXPRESSION.sub(replace, text), faults


def is_whole(text: str) -> bool:
    """True when the text is one template and nothing else, so that its value may be a number or a bool."""
    match = EXPRESSION.fullmatch(text.strip())
    return match is not None and match[1] is not None and "{{" not in match[1]
