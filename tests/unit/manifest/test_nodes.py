"""The node tree: raw scalars, places, and files that try to do harm."""

from __future__ import annotations

import pytest

from albor_pipeline.errors import Problems, Source
from albor_pipeline.manifest.nodes import NodeSpans, Scalar, Table, Text, compose


def tree(text: str) -> tuple[Table, Text]:
    source, problems = Text(Source("m.yaml", text)), Problems()
    node = compose(source, problems)
    assert isinstance(node, Table) and not list(problems), list(problems)
    return node, source


def fault(text: str) -> tuple[str, str]:
    problems = Problems()
    assert compose(Text(Source("m.yaml", text)), problems) is None
    (item,) = problems
    return item.code, f"{item.message} {item.label} {item.span}"


def test_scalars_keep_their_text_and_whether_they_were_quoted() -> None:
    node, _ = tree("a: 0644\nb: '0644'\nc: 1.0\nd: yes\ne: |\n  x\n")
    scalars = {key: value for key, (_, value) in node.items.items() if isinstance(value, Scalar)}
    assert {key: value.text for key, value in scalars.items()} == {
        "a": "0644",
        "b": "0644",
        "c": "1.0",
        "d": "yes",
        "e": "x\n",
    }
    assert [value.quoted for value in scalars.values()] == [False, True, False, False, True]


def test_flow_scalars_are_plain_too() -> None:
    node, _ = tree("a: [1, '1']")
    items = node.items["a"][1].items  # type: ignore[union-attr]
    assert [item.quoted for item in items] == [False, True]  # type: ignore[union-attr]


def test_places_are_right_after_wide_characters_and_carriage_returns() -> None:
    node, source = tree("a: é😀\r\nb: {c: [x, y]}\r\n")
    spans = NodeSpans(source, node, {})
    assert (str(spans["a"]), spans["a"].length) == ("m.yaml:1:4", 2)
    assert (str(spans["b.c.1"]), spans["b.c.1"].length) == ("m.yaml:2:12", 1)
    assert list(spans) == ["a", "b", "b.c", "b.c.0", "b.c.1"]
    with pytest.raises(KeyError):
        spans["b.x"]


def test_keys_with_dots_are_found() -> None:
    node, source = tree("set: {optimizer.lr: 1}")
    assert str(NodeSpans(source, node, {})["set.optimizer.lr"]) == "m.yaml:1:21"


def test_a_second_equal_key_is_an_error_that_names_the_first() -> None:
    problems = Problems()
    compose(Text(Source("m.yaml", "a: 1\nb: 2\na: 3\n")), problems)
    (item,) = problems
    assert (item.code, item.label, str(item.span)) == ("duplicate-key", "first at line 1", "m.yaml:3:1")


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("a:\n\tb: 1\n", "yaml", "a tab cannot indent"),
        ("a: [1\n", "yaml", "this is not YAML"),
        ("a: \0", "yaml", "U+0000"),
        ("a: é\x01", "yaml", "m.yaml:1:5"),
        ("a: \ud800", "yaml", "surrogate"),
        ("a: 1\n---\nb: 2\n", "yaml", "one YAML document"),
        ("a: !!python/object:os.system x", "yaml", "tags are not part"),
        ("a: &x [*x]", "yaml", "inside its own anchor"),
        ("a: *x", "yaml", "no anchor"),
        ("? [a]\n: 1\n", "yaml", "a key must be text"),
        ("[" * 100_000, "too-deep", "nested"),
        ("a: {" * 1_000, "too-deep", "nested"),
        ("\n".join(" " * depth + "a:" for depth in range(500)), "too-deep", "nested"),
    ],
)
def test_what_is_no_yaml_is_said_with_its_place(text: str, code: str, words: str) -> None:
    found, message = fault(text)
    assert found == code and words in message


def test_a_merge_key_is_an_error_that_names_what_does_the_same() -> None:
    problems = Problems()
    compose(Text(Source("m.yaml", "a: &a {x: 1}\nb:\n  <<: *a\n  '<<': text\n")), problems)
    (item,) = problems
    assert item.code == "merge-key" and item.span is not None and item.span.line == 3 and "for_each" in item.notes[0]


def test_anchors_that_explode_are_stopped() -> None:
    text = "a: &a [x, x, x, x, x, x, x, x, x]\n"
    for number in range(98, 110):
        text += f"{chr(number)}: &{chr(number)} [{', '.join(['*' + chr(number - 1)] * 9)}]\n"
    assert fault(text)[0] == "too-large"


def test_an_anchor_may_be_used_twice() -> None:
    node, _ = tree("a: &x [1]\nb: *x\n")
    assert node.get("a") is node.get("b")
