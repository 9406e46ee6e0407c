"""A configuration file and its --set values to a validated Config, with every fault at once; knows no stage by name."""

from __future__ import annotations

import copy
import json
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from stages.lib import tree as trees
from stages.lib.config import Config, keys_of
from stages.lib.problems import BadConfig, Problem, Span, did_you_mean

C = TypeVar("C", bound=Config)


def load_file(model: type[C], stage: str, path: Path, sets: Sequence[str] = ()) -> C:
    """The configuration in a YAML or JSON file; raises BadConfig with every fault, each with its place."""
    file = str(path)
    try:
        text = path.read_bytes().decode()
    except OSError as fault:
        raise BadConfig([Problem("no-file", f"cannot read {file}: {fault.strerror}", file)], {}) from None
    except UnicodeDecodeError as fault:
        raise BadConfig([Problem("syntax", f"{file} is not UTF-8 at byte {fault.start}", file)], {}) from None
    return _load(model, stage, trees.parse(text, file), {file: text.splitlines()}, sets)


def load_mapping(
    model: type[C], stage: str, values: Mapping[str, Any], sets: Sequence[str] = (), name: str = "config",
) -> C:
    """The configuration given as values; places refer to its JSON text under `name`."""
    text = json.dumps(values, indent=2, ensure_ascii=False)
    tree = trees.parse(text, name)
    tree.problems, tree.value = [], copy.deepcopy(dict(values))
    return _load(model, stage, tree, {name: text.splitlines()}, sets)


def _load(
    model: type[C], stage: str, tree: trees.Tree, sources: dict[str, list[str]], sets: Sequence[str],
) -> C:
    if tree.value is None and not tree.problems:
        tree.value = {}
    if not isinstance(tree.value, dict):
        file, span = tree.span(())
        problem = Problem("bad-value", "a configuration is a mapping of keys to values", file, span)
        raise BadConfig(tree.problems or [problem], sources)
    problems = list(tree.problems)
    for number, text in enumerate(sets, 1):
        name = f"--set {number}" if len(sets) > 1 else "--set"
        sources[name] = [text]
        problems += _set(tree, model, text, name)
    try:
        config = model.model_validate(tree.value)
    except ValidationError as fault:
        problems += [_explain(error, tree, model, stage) for error in fault.errors(include_url=False)]
        raise BadConfig(problems, sources) from None
    if problems:
        raise BadConfig(problems, sources)
    return config


def _set(tree: trees.Tree, model: type[BaseModel], text: str, name: str) -> list[Problem]:
    """Put `a.b=value` into the tree; a key replaces another name of the same field."""
    dotted, equals, value_text = text.partition("=")
    if not equals or not all(dotted.strip().split(".")):
        return [Problem("bad-set", f"`{text}` is not of the form key=value or section.key=value", name)]
    value = trees.Tree(value_text, name)
    shift = len(dotted) + 1
    value.values = {p: (f, _shifted(s, shift)) for p, (f, s) in value.values.items()} or {(): (name, Span(1, 1, 1))}
    value.keys = {p: (f, _shifted(s, shift)) for p, (f, s) in value.keys.items()}
    if value.problems:
        return [Problem(p.code, p.text, name, _shifted(p.span, shift), p.hint, p.note) for p in value.problems]
    steps, holder = dotted.strip().split("."), tree.value
    here: type[BaseModel] | None = model
    path: trees.Path = ()
    for depth, step in enumerate(steps):
        key = _slot(holder, step, here)
        if key is None:
            return [Problem("bad-set", f"`{'.'.join(steps[:depth])}` holds no key `{step}`", name)]
        path = (*path, key)
        if depth == len(steps) - 1:
            holder[key] = value.value
            tree.put(path, value)
            tree.keys[path] = name, Span(1, 1, len(dotted))
            return []
        if isinstance(holder, dict) and not isinstance(holder.get(key), dict | list):
            holder[key] = {}
            tree.keys.setdefault(path, (name, Span(1, 1, len(dotted))))
        holder, here = holder[key], _inner(here, key)
    return []


def _slot(holder: Any, step: str, model: type[BaseModel] | None) -> str | int | None:
    """The key under `holder` that `step` means: an index of a list, or the name by which the field is already there."""
    if isinstance(holder, list):
        return int(step) if step.isdecimal() and int(step) < len(holder) else None
    if not isinstance(holder, dict):
        return None
    keys = keys_of(model) if model else {}
    same = [known for known in holder if known in keys and keys[known] == keys.get(step)]
    return same[0] if same else step


def _explain(error: Any, tree: trees.Tree, model: type[BaseModel], stage: str) -> Problem:
    path = _in_tree(error["loc"], tree.value)
    owner = _model_at(model, path[:-1])
    where = f"`{'.'.join(map(str, path[:-1]))}`" if len(path) > 1 else f"stage `{stage}`"
    if error["type"] == "extra_forbidden":
        return _unknown_key(path, tree, owner, where)
    if error["type"] == "missing":
        parent = path if path and _there(path, tree.value) else path[:-1]
        missing = str(error["loc"][-1])
        file, span = tree.span(parent, key=True)
        where = f"`{'.'.join(map(str, parent))}`" if parent else f"stage `{stage}`"
        return Problem("missing-key", f"{where} needs the key `{missing}`", file, span)
    context = error.get("ctx", {}).get("error")
    text = str(context) if context else error["msg"].replace("Input should", "it should")
    file, span = tree.span(path)
    subject = f"`{'.'.join(map(str, path))}`" if path else f"stage `{stage}`"
    return Problem("bad-value", f"{subject}: {text}", file, span)


def _unknown_key(path: trees.Path, tree: trees.Tree, owner: type[BaseModel] | None, where: str) -> Problem:
    key, keys = str(path[-1]), keys_of(owner) if owner else {}
    file, span = tree.span(path, key=True)
    if key in keys:
        text = f"{where} has both `{key}` and another name of the same field, `{keys[key]}`"
        return Problem("duplicate-key", text, file, span, "keep one of the two")
    note = f"it takes: {', '.join(keys)}" if keys else None
    return Problem("unknown-key", f"{where} has no key `{key}`", file, span, did_you_mean(key, list(keys)), note)


def _in_tree(loc: Sequence[str | int], value: Any) -> trees.Path:
    """Pydantic's location without the marks it adds for unions: only steps that the values have, and the last one."""
    path: trees.Path = ()
    for number, step in enumerate(loc):
        if _has(value, step):
            path, value = (*path, step), value[step]
        elif number == len(loc) - 1 and isinstance(value, dict):
            path = (*path, step)
    return path


def _there(path: trees.Path, value: Any) -> bool:
    for step in path:
        if not _has(value, step):
            return False
        value = value[step]
    return True


def _has(value: Any, step: str | int) -> bool:
    if isinstance(value, list):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, dict) and step in value


def _model_at(model: type[BaseModel], path: trees.Path) -> type[BaseModel] | None:
    here: type[BaseModel] | None = model
    for step in path:
        here = _inner(here, step)
    return here


def _inner(model: type[BaseModel] | None, key: str | int) -> type[BaseModel] | None:
    """The model of the section `key` of `model`; the section of a list's item is the list's."""
    if model is None or isinstance(key, int):
        return model
    name = keys_of(model).get(key)
    return _first_model(model.model_fields[name].annotation) if name else None


def _first_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, Annotated, list, tuple, dict):
        return next((found for a in get_args(annotation) if (found := _first_model(a))), None)
    return None


def _shifted(span: Span, columns: int) -> Span:
    return Span(span.line, span.column + columns, span.width) if span.line == 1 else span
