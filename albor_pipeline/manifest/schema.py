"""Nodes against declared fields: each error of a field type becomes a diagnostic at its exact place. Knows no block in particular."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from albor_pipeline.errors import Diagnostic, Problems, Span
from albor_pipeline.manifest.names import Suggester
from albor_pipeline.manifest.nodes import NULLS, Node, Scalar, Sequence, Table, Text, shorten
from albor_pipeline.manifest.scope import NOT_KNOWN_YET, SECRET_NOTE, Scope
from albor_pipeline.manifest.template import EXPRESSION, is_whole, resolve
from albor_pipeline.model.manifest import AGE
from albor_pipeline.resources.fields import Fields, Quoted, declared, keys_of, typed

Model = TypeVar("Model", bound=Fields)

MAX_FAULTS = 20  # of one value; each is searched for its place, and a value may hold a hundred thousand
EXPECTED = {
    "string_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


@dataclass(frozen=True)
class Block:
    """How a block is spoken of: ``task `x` ``, its place, its keys as shown; other spellings -> field.

    `later` are the keys that have no effect in this version, `later_inside` those of blocks within, by their dotted path; a mapping says
    of each what to do instead, where there is that.
    """

    owner: str
    span: Span
    noun: str
    model: type[Fields]
    shown: Collection[str] = ()
    extra: Collection[str] = ()
    later: Collection[str] = ()
    names: Mapping[str, str] | None = None
    later_inside: Mapping[str, str] = field(default_factory=dict)

    @property
    def known(self) -> tuple[str, ...]:
        """Every key that may stand here."""
        return (*keys_of(self.model), *self.extra, *(self.names or {}))

    @property
    def takes(self) -> str:
        """The note of what is allowed: the keys worth showing, with an ellipsis where there are more."""
        shown = tuple(self.shown) or self.known
        return f"{self.noun} takes: {', '.join(shown)}" + (", ..." if set(self.known) - set(shown) else "")


def keys_at(model: type[Fields], words: list[str]) -> tuple[str, ...]:
    """The keys of the block that lies at `words` inside a model; empty when nothing is declared there."""
    for word in words:
        inner = None if word.isdecimal() else declared(model).get(word)
        if inner is not None:
            found = nested(inner.annotation)
            if found is None:
                return ()
            model = found
    return keys_of(model)


def nested(annotation: Any) -> type[Fields] | None:
    """The block that a field of this type holds, itself or inside a list or a mapping; None when it holds none."""
    if isinstance(annotation, type) and issubclass(annotation, Fields):
        return annotation
    return next((found for item in get_args(annotation) if (found := nested(item))), None)


class Reader:
    """Turns nodes into raw values (templates resolved) and raw values into models; problems are collected."""

    def __init__(self, text: Text, problems: Problems) -> None:
        self.text = text
        self.problems = problems
        self.suggest = Suggester()
        self.secrets: dict[str, Span] = {}
        self._faulty: set[int] = set()
        self._templated: dict[int, tuple[Scalar, tuple[str, ...], Mapping[str, Any]]] = {}
        self._not_yet: dict[str, Diagnostic] = {}

    def take_not_yet(self) -> tuple[Diagnostic, ...]:
        """What was read since the last call and has no effect in this version, each place once; a plan that needs it is refused."""
        found, self._not_yet = tuple(self._not_yet.values()), {}
        return found

    def note_not_yet(self, what: str, span: Span, label: str = "", instead: str = "") -> None:
        """Note one such thing: it is accepted here, and the plan refuses it by name, with what to use instead where there is that."""
        text = f"{what} is read and never brought about here" if instead else f"{what} is not supported yet"
        self._not_yet[f"{span}"] = Diagnostic("error", "not-supported", text, span, label, (instead,) if instead else ())

    def raw(self, node: Node, scope: Scope | None) -> Any:
        """The value with raw scalars: str when plain, Quoted when quoted, None for null; templates are left alone without a scope."""
        if type(node) is Scalar:
            text = node.text
            if scope is not None and "{{" in text:
                return self._template(node, scope)
            if scope is not None and "ENC[" in text:
                self._check_marker(node, text, scope)
            if node.quoted:
                return Quoted(text)
            return None if text in NULLS else text
        if type(node) is Table:
            return {key: self.raw(pair[1], scope) for key, pair in node.items.items()}
        assert type(node) is Sequence
        return [self.raw(item, scope) for item in node.items]

    def plain_text(self, node: Node) -> str:
        """The text that a template puts in: raw text, nothing for null, JSON for a list or a mapping."""
        if isinstance(node, Scalar):
            return "" if node.is_null else node.text
        return json.dumps(typed(self.raw(node, None)), ensure_ascii=False)

    def table(self, node: Node | None, what: str) -> Table | None:
        """The node as a mapping; None when it is absent, null, or something else, which is an error."""
        if node is None or (isinstance(node, Scalar) and node.is_null):
            return None
        if isinstance(node, Table):
            return node
        self.problems.error("wrong-type", f"{what} must be a mapping, not {node.what}", self.text.of(node))
        return None

    def model(self, model: type[Model], table: Table, values: dict[str, Any], block: Block) -> Model | None:
        """The validated model of `values`, which came from `table`; None when it is wrong, and every fault is noted.

        `values` is changed: other spellings become field names.
        """
        for written, name in (block.names or {}).items():
            if written in values:
                if name in values:
                    span = self.text.of(table.items[written][0])
                    message = f"{block.owner} has both `{name}` and `{written}`, two spellings of one key"
                    self.problems.error("duplicate-key", message, span)
                values[name] = values.pop(written)
        try:
            fields = model.model_validate(values)
            self._find_later(fields, table, block)
            return fields
        except ValidationError as failed:
            for error in failed.errors(include_url=False, include_context=True):
                self._note(error["type"], error["loc"], error.get("ctx", {}), error["msg"], table, block)
            return None

    def _find_later(self, fields: Fields, table: Table, block: Block) -> None:
        """Note every later key whose value asks for something: a key that has its default's value asks for nothing."""
        for path in table.items.keys() & block.later:
            self._later(fields, table, [path], block, block.later[path] if isinstance(block.later, Mapping) else "")
        for path, instead in block.later_inside.items():
            self._later(fields, table, path.split("."), block, instead)

    def _later(self, fields: Fields, table: Table, words: list[str], block: Block, instead: str = "") -> None:
        name, *rest = words
        node = table.get(name)
        value = getattr(fields, name, None)
        if (
            node is None
            or value is None
            or value == type(fields).model_fields[name].get_default(call_default_factory=True)
        ):
            return
        if rest and isinstance(node, Table) and isinstance(value, Fields):
            self._later(value, node, rest, block, instead)
        elif not rest:
            self.note_not_yet(f"`{name}`", self.text.of(table.items[name][0]), f"in {block.owner}", instead)

    def resolved(self, node: Scalar, text: str, scope: Scope, before: int = 0) -> str:
        """`text`, a part of `node` that has `before` templates ahead of it, with its templates replaced; faults are noted."""
        scope.looked_up.clear()
        text, faults = resolve(text, scope)
        names = tuple(scope.looked_up)
        if names:
            self._templated[id(node)] = (node, names, scope.origins)
            for name in names:
                if name.startswith("secrets."):
                    self.secrets.setdefault(name.removeprefix("secrets."), self.text.of(node))
        for fault in faults[:MAX_FAULTS]:
            self._faulty.add(id(node))
            if fault.code != NOT_KNOWN_YET:
                self.problems.error(
                    fault.code, fault.message, self._place(node, before + fault.number), fault.label, fault.notes
                )
        return text

    def is_sound(self, node: Node) -> bool:
        """False when a template in this scalar could not be resolved."""
        return id(node) not in self._faulty

    def spoil(self, node: Node) -> None:
        """Say nothing more of this value: what is wrong with it is noted."""
        self._faulty.add(id(node))

    def notes_of(self, node: Node, *, shared: bool = False) -> tuple[str, ...]:
        """What the templates of a scalar put in, and where that was written; `shared`: only what is the same in every copy."""
        if id(node) not in self._templated:
            return ()
        _, names, origins = self._templated[id(node)]
        found: dict[str, None] = {}
        for name in names:
            origin = origins.get(name)
            if origin is not None and not (shared and name.split(".")[0] in ("item", "inputs")):
                found[f"`{name}` is `{shorten(self.plain_text(origin))}`, set at {self.text.of(origin)}"] = None
        return tuple(found)

    def explained(self, diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
        """The diagnostics; one that stands at a value with templates tells what they put in."""
        places: dict[tuple[int, int, int], Scalar] = {}
        for node, _, _ in self._templated.values():
            span = self.text.of(node)
            places[id(span.source), span.line, span.column] = node
        told = []
        for item in diagnostics:
            place = item.span and places.get((id(item.span.source), item.span.line, item.span.column))
            notes = self.notes_of(place, shared=True) if place else ()
            known = any(" is `" in note for note in item.notes)
            told.append(item if known or not notes else replace(item, notes=(*item.notes, *notes)))
        return told

    def _template(self, node: Scalar, scope: Scope) -> str:
        text = self.resolved(node, node.text, scope)
        self._check_marker(node, text, scope)
        return Quoted(text) if node.quoted and not is_whole(node.text) else text

    def _check_marker(self, node: Scalar, text: str, scope: Scope) -> None:
        """Note an encrypted value where it would stay as it is: it is opened in the same places as a secret."""
        if not scope.secrets_allowed and AGE.search(text):
            self.problems.error("secret-place", "an `ENC[age,...]` value cannot stand here", self.text.of(node), "", (SECRET_NOTE,))

    def _place(self, node: Scalar, number: int) -> Span:
        source, base = self.text.at(node.start)
        found = EXPRESSION.finditer(source.text, node.start - base, node.end - base)
        match = next(islice(found, number, None), None)
        return self.text.of(node) if match is None else self.text.span(base + match.start(), base + match.end())

    def _walk(self, table: Table, loc: tuple[int | str, ...], block: Block) -> tuple[list[str], Scalar | None, Node]:
        spelling = {name: written for written, name in (block.names or {}).items()}
        words: list[str] = []
        key: Scalar | None = None
        node: Node = table
        for word in loc:
            if isinstance(node, Table):
                pair = node.items.get(str(word)) or node.items.get(spelling.get(str(word), ""))
                if pair is None:
                    break
                key, node = pair
                words.append(key.text)
            elif isinstance(node, Sequence) and isinstance(word, int) and word < len(node.items):
                node = node.items[word]
                words.append(str(word))
        return words, key, node

    def _note(
        self, kind: str, loc: tuple[int | str, ...], context: Mapping[str, Any], text: str, table: Table, block: Block
    ) -> None:
        words, key, node = self._walk(table, loc, block)
        where = f"`{'.'.join(words)}` of {block.owner}" if words else block.owner
        if kind == "extra_forbidden":
            self._unknown_key(words, key or node, block)
        elif kind == "missing":
            inside = f"`{'.'.join(words)}` of {block.owner}" if words else block.owner
            item = bool(words) and words[-1].isdecimal()
            place = block.span if node is table else self.text.of(node if item or key is None else key)
            self.problems.error("missing-key", f"{inside} needs `{loc[-1]}`", place, "", self._allowed(words, block))
        elif id(node) not in self._faulty:
            self._wrong(kind, where, context, text, node, block.span if node is table else self.text.of(node))

    def _allowed(self, words: list[str], block: Block) -> tuple[str, ...]:
        return () if words else (block.takes,)

    def _unknown_key(self, words: list[str], place: Node, block: Block) -> None:
        name, span = words[-1], self.text.of(place)
        nested = len(words) > 1
        owner = f"`{'.'.join(words[:-1])}` of {block.owner}" if nested else block.owner
        if name in block.later and not nested:
            self.problems.error("not-supported", f"`{name}` is not supported yet", span, f"in {block.owner}")
            return
        known = keys_at(block.model, words[:-1]) if nested else block.known
        notes = (f"`{words[-2]}` takes: {', '.join(known)}",) if nested and known else self._allowed(words[:-1], block)
        self.problems.error(
            "unknown-key", f"{owner} has no key `{shorten(name)}`", span, self.suggest.label(name, known), notes
        )

    def _wrong(self, kind: str, where: str, context: Mapping[str, Any], text: str, node: Node, span: Span) -> None:
        given, came = node.what, self.notes_of(node)
        if isinstance(node, Scalar):
            written = f'"{shorten(node.text)}"' if node.quoted else shorten(node.text)
            given = "null" if node.is_null else f"`{written}`"
        if kind == "albor":
            tail = f", not {given}" if isinstance(node, Scalar) else ""
            self.problems.error("wrong-value", f"{where} must be {context['must']}{tail}", span, "", came)
        elif kind == "literal_error":
            allowed = str(context.get("expected", "")).replace("'", "").replace(" or ", ", ").split(", ")
            label = self.suggest.label(node.text, allowed) if isinstance(node, Scalar) else ""
            notes = (f"allowed: {', '.join(allowed)}", *came)
            self.problems.error("wrong-value", f"{where} cannot be {given}", span, label, notes)
        elif kind in EXPECTED:
            self.problems.error("wrong-type", f"{where} must be {EXPECTED[kind]}, not {given}", span, "", came)
        else:
            self.problems.error("wrong-value", f"{where}: {text}", span, "", came)
