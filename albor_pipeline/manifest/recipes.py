"""Recipes: files of resources with typed inputs. Finds and reads them and binds their inputs; the resources in them are read elsewhere."""

from __future__ import annotations

import json
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from albor_pipeline.errors import Span
from albor_pipeline.manifest.context import Context
from albor_pipeline.manifest.files import Files
from albor_pipeline.manifest.nodes import Node, Scalar, Table
from albor_pipeline.manifest.schema import Block, Reader
from albor_pipeline.resources.fields import FALSE, INTEGER, TRUE, Fields, Free, Text, typed, wrong

MAX_NESTING = 16
FOLDER = "recipes"
INSTANCE = ("recipe", "inputs")


def _plain(value: Any) -> Any:
    if isinstance(value, list | dict):
        raise wrong("text, a number or a bool")
    return value


class InputFields(Fields):
    """One input that a recipe declares."""

    type: Annotated[Literal["string", "int", "bool", "path", "enum"], Field(description="what its values are")] = "string"
    description: Annotated[str, Field(description="a sentence for readers")] = ""
    default: Annotated[
        str | None, BeforeValidator(_plain), Field(description="the value when none is given; without one it must be given")
    ] = None
    min: Annotated[str | None, BeforeValidator(_plain), Field(description="the smallest value of an int")] = None
    max: Annotated[str | None, BeforeValidator(_plain), Field(description="the largest value of an int")] = None
    choices: Annotated[tuple[str, ...], Field(description="the values that an enum may have")] = ()


class RequiredFields(Fields):
    """Another recipe that must be used too."""

    recipe: Annotated[Text, Field(description="its name")]
    version: Annotated[Text | None, Field(description="its version; any when this is left out")] = None


class RecipeFields(Fields):
    """The head of a recipe file."""

    name: Annotated[Text, Field(description="the name of the recipe")]
    version: Annotated[Text | None, Field(description="its version; a manifest uses one version of a recipe")] = None
    description: Annotated[str, Field(description="a sentence for readers")] = ""
    inputs: Annotated[
        Mapping[str, InputFields], Field(description="what whoever uses it may set, by name: `{{inputs.NAME}}`")
    ] = Field(default_factory=dict)
    requires: Annotated[tuple[RequiredFields, ...], Field(description="other recipes that the manifest must use too")] = ()


class FileFields(Fields):
    """A recipe file."""

    recipe: Free
    resources: Free = None


class InstanceFields(Fields):
    """What an instance gives to its recipe."""

    recipe: Text
    inputs: Mapping[str, Any] = Field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A recipe file as read; `places` are its declared inputs."""

    head: RecipeFields
    path: str
    span: Span
    head_table: Table
    resources: Mapping[str, tuple[Scalar, Node]] = field(default_factory=dict)


class Recipes:
    """The recipe files of one manifest, each read once."""

    def __init__(self, reader: Reader, files: Files) -> None:
        self._reader = reader
        self._files = files
        self._read: dict[Path, Recipe | None] = {}
        self._versions: dict[str, Recipe] = {}

    def entry(self, name: str, span: Span, table: Table, context: Context, block: Block) -> Context | None:
        """The context of the resources of an instance; None when it is wrong, and that is noted."""
        items: dict[str, Node] = {key: table.items[key][1] for key in INSTANCE if key in table.items}
        values = {key: self._reader.raw(node, context.scope) for key, node in items.items()}
        for key, (written, _) in table.items.items():
            if key not in block.known and key not in ("count", "for_each", "when"):
                values[key] = self._reader.raw(written, None)
        fields = self._reader.model(InstanceFields, table, values, block)
        if fields is None:
            return None
        place = self._reader.text.of(items["recipe"])
        recipe = self._find(fields.recipe, items["recipe"], place)
        if recipe is None or not self._may_nest(recipe, context, place):
            return None
        inputs = self._bind(recipe, name, span, table, fields.inputs)
        if inputs is None:
            return None
        given = table.get("inputs")
        nodes: dict[str, Any] = {}
        for word in inputs:
            own = given.get(word) if isinstance(given, Table) else None
            nodes[f"inputs.{word}"] = own or _default_node(recipe, word)
        origins: Any = ChainMap({key: node for key, node in nodes.items() if node is not None}, context.scope.origins)  # type: ignore[arg-type]
        scope = replace(context.scope, inputs=inputs, item=None, index=None, origins=origins)
        return replace(context, scope=scope, prefix=f"{name}/", files=(*context.files, recipe.path))

    def resources(self, entry: Context) -> Mapping[str, tuple[Scalar, Node]]:
        """The resource nodes of the recipe of an instance."""
        recipe = next(item for item in self._read.values() if item is not None and item.path == entry.files[-1])
        return recipe.resources

    def check_required(self) -> None:
        """Note every `requires` that no instance fulfils."""
        for recipe in [item for item in self._read.values() if item is not None]:
            for index, need in enumerate(recipe.head.requires):
                other = self._versions.get(need.recipe)
                node = _at(recipe.head_table, "requires", index)
                place = self._reader.text.of(node) if node is not None else recipe.span
                if other is None:
                    message = f"recipe `{recipe.head.name}` requires the recipe `{need.recipe}`, which nothing uses"
                    note = f"add a resource with `type: recipe` and `recipe: {need.recipe}`"
                    self._reader.problems.error("missing-recipe", message, place, "", (note,))
                elif need.version is not None and need.version != other.head.version:
                    message = f"recipe `{recipe.head.name}` requires `{need.recipe}` in version {need.version}"
                    note = f"`{need.recipe}` has version {other.head.version or 'none'}, {other.span}"
                    self._reader.problems.error("recipe-version", message, place, "", (note,))

    def _may_nest(self, recipe: Recipe, context: Context, place: Span) -> bool:
        if recipe.path in context.files:
            cycle = [*context.files[context.files.index(recipe.path) :], recipe.path]
            message = f"these recipes use each other: {' -> '.join(Path(path).stem for path in cycle)}"
            self._reader.problems.error("recipe-cycle", message, place)
            return False
        if len(context.files) >= MAX_NESTING:
            self._reader.problems.error("too-deep", f"recipes are nested more than {MAX_NESTING} deep", place)
            return False
        return True

    def _find(self, name: str, node: Node, place: Span) -> Recipe | None:
        folder = self._files.folder_of(node) / FOLDER
        path = self._files.beside(folder, f"{name}.yaml")
        if path is None:
            known = self._files.names(folder, ".yaml")
            label = self._reader.suggest.label(name, known)
            note = f"recipes in {self._files.shown(folder)}: {', '.join(known) or 'none'}"
            self._reader.problems.error("unknown-recipe", f"there is no recipe `{name}`", place, label, (note,))
            return None
        if path not in self._read:
            self._read[path] = self._load(path, place)
        return self._read[path]

    def _load(self, path: Path, place: Span) -> Recipe | None:
        root = self._files.table(path, place, "a recipe is a mapping with `recipe` and `resources`")
        if root is None:
            return None
        shown = self._files.shown(path)
        start = self._reader.text.span(root.start, root.start + 1)
        block = Block(f"recipe file {shown}", start, "a recipe file", FileFields)
        values = {key: self._reader.raw(node, None) for key, (_, node) in root.items.items()}
        if self._reader.model(FileFields, root, values, block) is None:
            return None
        table = self._reader.table(root.get("recipe"), "`recipe`") or Table(root.start)
        head_block = Block("`recipe`", self._reader.text.of(root.items["recipe"][0]), "`recipe`", RecipeFields)
        head = self._reader.model(RecipeFields, table, self._reader.raw(table, None), head_block)
        resources = self._reader.table(root.get("resources"), "`resources`")
        if head is None:
            return None
        name = table.get("name")
        span = self._reader.text.of(name) if name is not None else start
        recipe = Recipe(head, str(path), span, table, resources.items if resources is not None else {})
        return recipe if self._is_one_version(recipe, place) and self._inputs_make_sense(recipe) else None

    def _is_one_version(self, recipe: Recipe, place: Span) -> bool:
        other = self._versions.setdefault(recipe.head.name, recipe)
        if other.head.version == recipe.head.version:
            return True
        message = f"recipe `{recipe.head.name}` is used in versions {other.head.version} and {recipe.head.version}"
        notes = (f"{other.head.version or 'none'}: {other.span}", f"{recipe.head.version or 'none'}: {recipe.span}")
        self._reader.problems.error("recipe-version", message, place, "", notes)
        return False

    def _inputs_make_sense(self, recipe: Recipe) -> bool:
        good = True
        for name, declared in recipe.head.inputs.items():
            node = _at(recipe.head_table, "inputs", name)
            assert node is not None
            if declared.type == "enum" and not declared.choices:
                message = f"input `{name}` of recipe `{recipe.head.name}` is an enum without `choices`"
                self._reader.problems.error("missing-key", message, self._reader.text.of(node))
                good = False
            for key, bound in (("min", declared.min), ("max", declared.max)):
                if bound is not None and (declared.type != "int" or _number(bound) is None):
                    message = f"`{key}` of input `{name}` must be a whole number, of an input of type int"
                    self._reader.problems.error("wrong-value", message, self._reader.text.of(_at(node, key) or node))
                    good = False
            if declared.default is not None and (must := _must(declared, declared.default)):
                place = _default_node(recipe, name)
                message = f"`default` of input `{name}` must be {must}, not `{declared.default}`"
                self._reader.problems.error("wrong-value", message, self._reader.text.of(place or node))
                good = False
        return good

    def _bind(
        self, recipe: Recipe, name: str, span: Span, table: Table, given: Mapping[str, Any]
    ) -> dict[str, str] | None:
        """The text of every input; None when one is missing, unknown or of a wrong type."""
        before = self._reader.problems.error_count
        declared = recipe.head.inputs
        node = table.get("inputs")
        allowed = f"recipe `{recipe.head.name}` takes: {', '.join(declared) or 'no inputs'}, see {recipe.span}"
        for word in given:
            if word not in declared and isinstance(node, Table):
                place = self._reader.text.of(node.items[word][0])
                message = f"recipe `{recipe.head.name}` has no input `{word}`"
                label = self._reader.suggest.label(word, declared)
                self._reader.problems.error("unknown-input", message, place, label, (allowed,))
        bound: dict[str, str] = {}
        for word, field_ in declared.items():
            value = given.get(word)
            if value is None and field_.default is None:
                place = self._reader.text.of(table.items["inputs"][0]) if "inputs" in table.items else span
                self._reader.problems.error(
                    "missing-input", f"`{name}` needs the input `{word}`", place, "", (allowed,)
                )
                continue
            inner = node.get(word) if isinstance(node, Table) else None
            text = field_.default if value is None or inner is None else self._text(value, inner)
            assert text is not None
            if inner is not None and (must := _must(field_, text)):
                message = f"input `{word}` of `{name}` must be {must}, not `{text}`"
                notes = (f"it is declared at {self._places(recipe, word)}", *self._reader.notes_of(inner))
                self._reader.problems.error("wrong-value", message, self._reader.text.of(inner), "", notes)
            bound[word] = text
        return bound if self._reader.problems.error_count == before else None

    def _text(self, value: Any, node: Node) -> str:
        return str(value) if isinstance(node, Scalar) else json.dumps(typed(value), ensure_ascii=False)

    def _places(self, recipe: Recipe, name: str) -> Span:
        node = _at(recipe.head_table, "inputs", name)
        return self._reader.text.of(node) if node is not None else recipe.span


def _at(table: Node, *words: str | int) -> Node | None:
    node: Node | None = table
    for word in words:
        if isinstance(node, Table):
            node = node.get(str(word))
        elif node is not None and not isinstance(node, Scalar) and isinstance(word, int):
            node = node.items[word] if word < len(node.items) else None
        else:
            return None
    return node


def _default_node(recipe: Recipe, name: str) -> Node | None:
    return _at(recipe.head_table, "inputs", name, "default")


def _must(declared: InputFields, text: str) -> str:
    """What the value must be and is not; nothing when it is right."""
    if declared.type == "bool":
        return "" if text in TRUE | FALSE else "true or false"
    if declared.type == "enum":
        return "" if text in declared.choices else f"one of {', '.join(declared.choices)}"
    if declared.type == "path":
        return "" if text.strip() and "\0" not in text else "a path"
    if declared.type == "string":
        return ""
    return _in_range(declared, text)


def _in_range(declared: InputFields, text: str) -> str:
    what = "a whole number"
    if declared.min is not None:
        what += f" from {declared.min}"
    if declared.max is not None:
        what += f" to {declared.max}" if declared.min is not None else f" of at most {declared.max}"
    if not INTEGER.fullmatch(text) or len(text) > 18:
        return what
    number = int(text, 0)
    low, high = (_number(bound) for bound in (declared.min, declared.max))
    return what if (low is not None and number < low) or (high is not None and number > high) else ""


def _number(text: str | None) -> int | None:
    return int(text, 0) if text is not None and INTEGER.fullmatch(text) and len(text) <= 18 else None
