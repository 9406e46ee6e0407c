"""Scope: what templates may name at one place of a manifest, and how each name gets its text. Knows no template syntax and no nodes.

A namespace is a row of NAMESPACES: the words after its name and the scope go in, text comes out.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from albor_pipeline.manifest.names import Suggester
from albor_pipeline.model.manifest import Machine, secret_mark

SHOWN = 12
NOT_KNOWN_YET = "not-known-yet"
SECRET_NOTE = (
    "a secret can stand in `env` of a task and in `content` of a file: nowhere else is it kept out of what is written"
)


class Unresolved(Exception):
    """A template without a value; `missing` tells that the name is unknown, which `default` forgives."""

    def __init__(
        self, code: str, message: str, label: str = "", notes: tuple[str, ...] = (), *, missing: bool = False
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.label, self.notes, self.missing = code, message, label, notes, missing


@dataclass
class Scope:
    """`current` is the machine of the resource, `asked_current` tells that it was used; `looked_up` collects the names used,
    `environ_read` those of variables that were asked for.

    `origins` gives for a full name (`params.seed`) the node that holds its value; `inputs` is there only inside a recipe,
    `item` and `index` only in a copy of `for_each` or `count`; `data` fetches a data source by name and field. `told` are words of
    a notice, whose values are known when it is given.
    """

    params: Mapping[str, str] = field(default_factory=dict)
    machines: Mapping[str, Machine] = field(default_factory=dict)
    current: Machine | None = None
    asked_current: bool = False
    suggest: Suggester = field(default_factory=Suggester)
    inputs: Mapping[str, str] | None = None
    item: str | None = None
    index: str | None = None
    data: Callable[[str, str], str] | None = None
    data_names: Mapping[str, Any] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    environ_read: set[str] = field(default_factory=set)
    origins: Mapping[str, Any] = field(default_factory=dict)
    secrets_allowed: bool = False
    told: tuple[str, ...] = ()
    looked_up: list[str] = field(default_factory=list)


def _param(scope: Scope, words: list[str]) -> str:
    return _known(scope, scope.params, ".".join(words), "param", "params")


def _input(scope: Scope, words: list[str]) -> str:
    if scope.inputs is None:
        raise Unresolved("template", "`inputs` has a meaning only inside a recipe")
    return _known(scope, scope.inputs, ".".join(words), "input", "inputs of this recipe")


def _known(scope: Scope, values: Mapping[str, str], name: str, what: str, many: str) -> str:
    if name not in values:
        allowed = f"declared {many}: {', '.join(list(values)[:SHOWN])}" if values else f"no {many} are declared"
        label = scope.suggest.label(name, values)
        raise Unresolved(f"unknown-{what}", f"there is no {what} `{name}`", label, (allowed,), missing=True)
    return values[name]


FACTS: Mapping[str, Callable[[Machine], str]] = {
    "addr": lambda machine: machine.addr,
    "hostname": lambda machine: machine.hostname,
    "user": lambda machine: machine.user or "",
    "arch": lambda machine: machine.arch,
    "name": lambda machine: machine.name,
    "roles": lambda machine: ",".join(machine.roles),
}


def _machine(scope: Scope, words: list[str]) -> str:
    if len(words) == 1 and words[0] in FACTS:
        words = ["self", words[0]]
    if len(words) != 2:
        forms = (f"facts: {', '.join(FACTS)}", "`machine.self` is the machine of the resource itself")
        raise Unresolved("template", "a machine template is `machine.NAME.FACT`", "", forms)
    name, fact = words
    if name == "self":
        scope.asked_current = True
        machine = scope.current
        if machine is None:
            raise Unresolved("template", "`machine.self` has a meaning only inside a resource")
    elif name in scope.machines:
        machine = scope.machines[name]
    else:
        known = ["self", *scope.machines]
        raise Unresolved("unknown-machine", f"there is no machine `{name}`", scope.suggest.label(name, known))
    if fact not in FACTS:
        allowed = (f"facts of a machine: {', '.join(FACTS)}",)
        raise Unresolved("template", f"a machine has no fact `{fact}`", scope.suggest.label(fact, FACTS), allowed)
    return FACTS[fact](machine)


def _copy(word: str, key: str) -> Callable[[Scope, list[str]], str]:
    def value(scope: Scope, words: list[str]) -> str:
        if words:
            raise Unresolved("template", f"`{word}` is text and has no parts")
        text: str | None = getattr(scope, word)
        if text is None:
            raise Unresolved("template", f"`{word}` has a meaning only in a resource with `{key}`")
        return text

    return value


def _secret(scope: Scope, words: list[str]) -> str:
    name = ".".join(words)
    if not name:
        raise Unresolved("template", "a secret template is `secrets.NAME`")
    if not scope.secrets_allowed:
        raise Unresolved("secret-place", f"the secret `{name}` cannot stand here", "", (SECRET_NOTE,))
    return secret_mark(name)


def _data(scope: Scope, words: list[str]) -> str:
    name, part = words[0] if words else "", ".".join(words[1:])
    if name not in scope.data_names:
        many = ", ".join(list(scope.data_names)[:SHOWN])
        allowed = (f"declared data sources: {many}" if many else "no data sources are declared",)
        label = scope.suggest.label(name, scope.data_names)
        raise Unresolved("unknown-data", f"there is no data source `{name}`", label, allowed)
    if scope.data is None:
        raise Unresolved(NOT_KNOWN_YET, f"`data.{name}` is read when a plan is made")
    return scope.data(name, part)


NAMESPACES: Mapping[str, Callable[[Scope, list[str]], str]] = {
    "params": _param,
    "machine": _machine,
    "inputs": _input,
    "secrets": _secret,
    "data": _data,
    "item": _copy("item", "for_each"),
    "index": _copy("index", "count"),
}


def environment(scope: Scope, name: str) -> str:
    """The value of `env(NAME)`: a variable of the environment that the command runs in."""
    scope.environ_read.add(name)
    if name not in scope.environ:
        note = f"set it, or write `default(env({name}), TEXT)`"
        raise Unresolved("unknown-env", f"the environment has no variable `{name}`", "", (note,), missing=True)
    return scope.environ[name]
