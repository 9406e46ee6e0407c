"""Laws of `fmt` over manifests written in every manner: it keeps the meaning and the comments, and doing it twice is doing it once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from albor_pipeline.errors import ManifestError, Problems, Source
from albor_pipeline.manifest.layout import formatted, same
from albor_pipeline.manifest.nodes import Node, Text, compose

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted([*(ROOT / "manifests").rglob("*.yaml"), *(ROOT / "tests").rglob("*.yaml"), *(ROOT / "contracts").glob("*.yaml")])
COMMENT = re.compile(r"# ?c\d+")
WORDS = ("ls -l", "'it''s'", '"two\\n lines"', "3e-4", "0644", "null", "", "'{{params.a}}'", "[a, b]", "{a: 1, b: [2]}", '"# none"', "a#b")
LONG = (
    ("|", ["for i in 1; do", "  echo $i", "", "done"]),
    (">-", ["folded", "text", "", "  more"]),
    ("|+", ["kept", "", ""]),
    ("'quoted", ["over", "", "lines'"]),
    ('"quoted', ["over \\", "lines  # no comment", '"']),
    ("plain", ["over", "lines"]),
    ("[a,", ["b, # flow", "{c: 1}]"]),
)
PIECES = ("- ", "a: ", "b: ", "? ", "  ", "\n", "|\n", "&x ", "*x", "{", "}", "#", "'", '"', "\t", "<<: ", "---\n")
RESOURCE = ("type", "command", "outputs", "inputs", "needs", "machine", "depends_on", "mode", "odd key", "tags")


def _tree(text: str) -> Node | None:
    problems = Problems()
    tree = compose(Text(Source("made", text)), problems)
    assert not problems.errors, (text, list(problems))
    return tree


class _Writer:
    """Writes data in a manner that is drawn: indentation, dashes, comments with numbers, blank lines, forms of text."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw
        self._count = 0

    def _pick(self, *choices: Any) -> Any:
        return self._draw(st.sampled_from(choices))

    def _comment(self) -> str:
        self._count += 1
        return f"# c{self._count}"

    def _above(self, indent: int) -> list[str]:
        lines = []
        for _ in range(self._pick(0, 0, 0, 1, 2)):
            lines.append(self._pick("", " " * self._pick(indent, indent, indent + 3, 0) + self._comment()))
        return lines

    def _beside(self) -> str:
        return f"{self._pick(' ', '   ')}{self._comment()}" if self._pick(True, False, False) else ""

    def table(self, data: dict[str, Any], indent: int) -> list[str]:
        lines: list[str] = []
        for key, value in data.items():
            lines += [*self._above(indent), *self._value(f"{' ' * indent}{key}:", value, indent, same_column=True)]
        return [*lines, *self._above(indent)]

    def _items(self, items: list[Any], indent: int) -> list[str]:
        lines: list[str] = []
        for item in items:
            lines += self._above(indent)
            if isinstance(item, dict) and item and self._pick(True, False):
                gap = self._pick(1, 3)
                first, *rest = self.table(item, indent + 1 + gap)
                while not first.strip() or first.strip().startswith("#"):
                    first, *rest = rest
                lines += [f"{' ' * indent}-{' ' * gap}{first.lstrip()}", *rest]
            else:
                lines += self._value(f"{' ' * indent}-", item, indent, same_column=False)
        return lines

    def _value(self, head: str, value: Any, indent: int, same_column: bool) -> list[str]:
        deeper = indent + self._pick(1, 2, 4)
        if isinstance(value, dict) and value:
            return [head + self._beside(), *self.table(value, deeper)]
        if isinstance(value, list) and value:
            return [head + self._beside(), *self._items(value, indent if same_column and self._pick(True, False) else deeper)]
        if isinstance(value, int):
            first, rest = LONG[value]
            return [f"{head} {first}", *(" " * deeper + line if line else "" for line in rest)]
        return [f"{head} {value or ''}".rstrip() + self._beside()]


values = st.recursive(
    st.one_of(st.sampled_from(WORDS), st.integers(0, len(LONG) - 1)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(("a", "b", "path", "'q'", "x.y")), inner, max_size=3)
    ),
    max_leaves=6,
)
resources = st.dictionaries(st.sampled_from(RESOURCE), values, max_size=5).map(lambda body: {**body, "type": "task"})
manifests = st.fixed_dictionaries(
    {"name": st.just("x")},
    optional={
        "resources": st.dictionaries(st.sampled_from(("one", "two", "three")), resources, max_size=3),
        "version": st.just('"1.0"'),
        "policy": values,
        "machines": st.dictionaries(st.sampled_from(("lambda", "intel")), values, max_size=2),
        "outputs": values,
        "params": values,
    },
)


@st.composite
def texts(draw: Any) -> str:
    """A manifest, its keys in any order, written in any manner."""
    data = draw(manifests)
    keys = draw(st.permutations(list(data)))
    lines = _Writer(draw).table({key: data[key] for key in keys}, 0)
    return "\n".join(lines) + draw(st.sampled_from(("\n", "", "\n\n")))


@given(texts())
@example("name: x\nmachines:\n intel:\n  a: |+\n    kept\n\n   # c4\npolicy:\n")
@example("name: x\nmachines:\n    a: |\n         text\n       # c1\npolicy:\n   b: 1\n")
@example("name: x\nresources:\n one:\n  outputs: ls\n  type: task\n  command: |+\n   kept\n\n\n  needs: ls\nparams: ls\n")
@settings(max_examples=300, deadline=None)
def test_meaning_and_comments_stay_and_twice_is_once(text: str) -> None:
    made = formatted(Source("made", text))
    assert same(_tree(text), _tree(made))
    assert sorted(COMMENT.findall(made)) == sorted(COMMENT.findall(text))
    assert formatted(Source("made", made)) == made


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_project_s_own_files_keep_their_meaning(path: Path) -> None:
    text = path.read_text()
    try:
        made = formatted(Source(str(path), text))
    except ManifestError:
        return
    assert same(_tree(text), _tree(made))
    assert formatted(Source(str(path), made)) == made


@given(st.text(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
@settings(max_examples=400, deadline=None)
def test_any_text_is_put_in_order_or_refused_with_its_meaning(text: str) -> None:
    try:
        made = formatted(Source("made", text))
    except ManifestError as error:
        assert error.diagnostics
        return
    assert same(_tree(text), _tree(made))
    assert formatted(Source("made", made)) == made
