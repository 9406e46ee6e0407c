"""The page docs/resources.md: each field of each type, what it does, and the tests that show it. `python tests/effects.py` prints it.

A test names the fields that it shows by `@pytest.mark.effect("type.field")`, a case in tests/resources/TYPE/ by `shows: [field]`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from albor_pipeline.manifest import later
from albor_pipeline.manifest.describe import ANY_TYPE, blocks
from albor_pipeline.resources.registry import KINDS

TESTS = Path(__file__).parent
NO_STATE = ("task", "recipe")
COMMON = (
    "machine", "depends_on", "tags", "resource_group", "arch", "when", "count", "for_each", "triggers", "restart_on", "pre_apply",
    "post_apply", "sudo", "lifecycle", "store",
)  # fmt: skip
REFUSED = {"machine": later.MACHINE, "policy": later.POLICY, "task": later.TASK, "any": later.RESOURCE}
HEAD = """# What each field does, and where that is shown

Made by `python tests/effects.py > docs/resources.md`; a rule test holds it in step, and fails for a field that no test shows.
`docs/types.md` says what each field takes. A field that is refused is refused by name when a plan needs it, and a test shows that.
"""


def shown() -> dict[str, list[str]]:
    """`type.field` -> the tests that show what it does, as one would run them."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("*.py")):
        for name, fields in _marked(ast.parse(path.read_text())):
            for field in fields:
                found.setdefault(field, []).append(f"{path.relative_to(TESTS).as_posix()}::{name}")
    for path in sorted((TESTS / "resources").glob("*/*.yaml")):
        for field in yaml.safe_load(path.read_text()).get("shows", ()):
            found.setdefault(f"{path.parent.name}.{field}", []).append(path.relative_to(TESTS).as_posix())
    return found


def _marked(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.effect":
                    yield node.name, [str(ast.literal_eval(word)) for word in call.args]


def fields() -> dict[str, str]:
    """`type.field` of every type that describes a machine, with the sentence that `explain` has for it."""
    found: dict[str, str] = {}
    for block in blocks():
        if block.name in KINDS and block.name not in NO_STATE and block.name not in later.TYPES:
            found |= {f"{block.name}.{field.name}": field.about for field in block.fields if field.change != "doc"}
    everywhere = next(block for block in blocks() if block.name == ANY_TYPE)
    return {f"any.{field.name}": field.about for field in everywhere.fields if field.name in COMMON} | found


def page() -> str:
    """The whole page."""
    tests, lines, last = shown(), [HEAD], ""
    for name, about in fields().items():
        kind, _dot, field = name.partition(".")
        if kind != last:
            title = "Every type" if kind == "any" else f"`{kind}`"
            lines += ["", f"## {title}", "", "| field | what it does | shown by |", "|---|---|---|"]
            last = kind
        first = tests.get(name, [])
        more = f" and {len(first) - 1} more" if len(first) > 1 else ""
        lines.append(f"| `{field}` | {about} | {first[0] + more if first else ''} |")
    lines += ["", "## Refused by every plan that needs it", "", "| type or field | why |", "|---|---|"]
    lines += [f"| `{name}` | it is never brought about here: {later.INSTEAD[name]} |" for name in sorted(later.TYPES)]
    lines += [f"| `{name}.{later.NEW_FIRST}` | {why} |" for name, why in sorted(later.OLD_FIRST.items())]
    lines += [f"| `task_mode: {mode}` | it is never brought about here: {why} |" for mode, why in sorted(later.MODES.items())]
    for block, names in REFUSED.items():
        why = names if isinstance(names, dict) else {}
        lines += [f"| `{block}.{name}` | {why.get(name) or 'nothing has this effect yet'} |" for name in sorted(names)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(page())
