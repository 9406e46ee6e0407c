"""Templates: `{{params.x}}` and `{{machine.NAME.addr}}` in text; `{{{{` is two braces. Knows no nodes and no diagnostics.

A namespace is a row of NAMESPACES: the words after its name and the scope go in, text comes out. One pass: what was put in is
not looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import count

from albor_pipeline.manifest import later
from albor_pipeline.manifest.names import Suggester
from albor_pipeline.model.manifest import Machine

EXPRESSION = re.compile(r"\{\{\{\{|\{\{(.*?)\}\}|\{\{", re.DOTALL)
CALL = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*\(")
ESCAPE = "write `{{{{` where two braces are meant"


@dataclass
class Scope:
    """What templates may name; `current` is the machine of the resource, `asked_current` tells that it was used."""

    params: Mapping[str, str] = field(default_factory=dict)
    machines: Mapping[str, Machine] = field(default_factory=dict)
    current: Machine | None = None
    asked_current: bool = False
    suggest: Suggester = field(default_factory=Suggester)


@dataclass(frozen=True)
class Fault:
    """A template that cannot be resolved: which one of the text it is, counted from 0, and what a diagnostic says."""

    number: int
    code: str
    message: str
    label: str = ""
    notes: tuple[str, ...] = ()


class _Unresolved(Exception):
    def __init__(self, code: str, message: str, label: str = "", notes: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.code, self.message, self.label, self.notes = code, message, label, notes


def _param(scope: Scope, words: list[str]) -> str:
    name = ".".join(words)
    if name not in scope.params:
        allowed = (
            ("declared params: " + ", ".join(list(scope.params)[:12]),) if scope.params else ("no params are declared",)
        )
        raise _Unresolved(
            "unknown-param", f"there is no param `{name}`", scope.suggest.label(name, scope.params), allowed
        )
    return scope.params[name]


FACTS: Mapping[str, Callable[[Machine], str]] = {
    "addr": lambda machine: machine.addr,
    "hostname": lambda machine: machine.hostname,
    "user": lambda machine: machine.user or "",
    "arch": lambda machine: machine.arch,
    "name": lambda machine: machine.name,
}


def _machine(scope: Scope, words: list[str]) -> str:
    if len(words) != 2:
        raise _Unresolved("template", "a machine template is `machine.NAME.FACT`", "", (f"facts: {', '.join(FACTS)}",))
    name, fact = words
    if name == "self":
        scope.asked_current = True
        machine = scope.current
        if machine is None:
            raise _Unresolved("template", "`machine.self` has a meaning only inside a resource")
    elif name in scope.machines:
        machine = scope.machines[name]
    else:
        known = ["self", *scope.machines]
        raise _Unresolved("unknown-machine", f"there is no machine `{name}`", scope.suggest.label(name, known))
    if fact not in FACTS:
        allowed = (f"facts of a machine: {', '.join(FACTS)}",)
        raise _Unresolved("template", f"a machine has no fact `{fact}`", scope.suggest.label(fact, FACTS), allowed)
    return FACTS[fact](machine)


NAMESPACES: Mapping[str, Callable[[Scope, list[str]], str]] = {"params": _param, "machine": _machine}


def _evaluate(expression: str, scope: Scope) -> str:
    call = CALL.match(expression)
    if call:
        if call[1] in later.FUNCTIONS:
            raise _Unresolved("not-supported", f"the function `{call[1]}` is not supported yet")
        raise _Unresolved("template", f"there is no function `{call[1]}`", "", (ESCAPE,))
    namespace, *words = expression.strip().split(".")
    if namespace in later.NAMESPACES:
        raise _Unresolved("not-supported", f"`{{{{{namespace}}}}}` is not supported yet")
    if namespace not in NAMESPACES:
        allowed = (f"a template starts with: {', '.join(f'{name}.' for name in NAMESPACES)}", ESCAPE)
        raise _Unresolved(
            "template", f"`{expression.strip()}` names nothing", scope.suggest.label(namespace, NAMESPACES), allowed
        )
    return NAMESPACES[namespace](scope, words)


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
            return _evaluate(match[1], scope)
        except _Unresolved as error:
            faults.append(Fault(number, error.code, error.message, error.label, error.notes))
            return written

    return EXPRESSION.sub(replace, text), faults


def is_whole(text: str) -> bool:
    """True when the text is one template and nothing else, so that its value may be a number or a bool."""
    match = EXPRESSION.fullmatch(text.strip())
    return match is not None and match[1] is not None and "{{" not in match[1]
