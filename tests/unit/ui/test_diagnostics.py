"""The text of diagnostics: the caret stands under the place, and text of the user cannot disturb it."""

from __future__ import annotations

import pytest

from albor_pipeline.errors import Diagnostic, Source, Span
from albor_pipeline.ui.diagnostics import render, render_all, summary, visible


def at(text: str, line: int, column: int, length: int = 1, message: str = "wrong", label: str = "") -> Diagnostic:
    return Diagnostic("error", "code", message, Span(Source("m.yaml", text), line, column, length), label)


def test_the_shape_is_that_of_the_target() -> None:
    text = "\n" * 85 + "    output_artifacts: [models/]\n    depend_on: [data-mix]\n"
    span = Span(Source("manifests/albor.yaml", text), 87, 5, 9)
    message, label = "task `t` has no key `depend_on`", "did you mean `depends_on`?"
    item = Diagnostic("error", "unknown-key", message, span, label, ("a task takes: x, ...",))
    assert render_all([item]) == (
        "error[unknown-key]: task `t` has no key `depend_on`\n"
        "  --> manifests/albor.yaml:87:5\n"
        "   |\n"
        "86 |     output_artifacts: [models/]\n"
        "87 |     depend_on: [data-mix]\n"
        "   |     ^^^^^^^^^ did you mean `depends_on`?\n"
        "   = a task takes: x, ...\n"
    )


def caret_of(item: Diagnostic) -> tuple[str, str]:
    lines = render(item).splitlines()
    return lines[-2].partition("| ")[2], lines[-1].partition("| ")[2]


@pytest.mark.parametrize(
    ("line", "column", "length", "shown", "caret"),
    [
        ("\ta: x", 2, 1, "    a: x", "    ^"),
        ("ab\tc", 4, 1, "ab  c", "    ^"),
        ("日本: x", 5, 1, "日本: x", "      ^"),
        ("日本: x", 1, 2, "日本: x", "^^^^"),
        ("e\u0301: x", 5, 1, "e\u0301: x", "   ^"),
        ("a\u202e: x", 5, 1, "a<U+202E>: x", "           ^"),
        ("a: \x1b[31m", 4, 1, "a: <U+001B>[31m", "   ^^^^^^^^"),
        ("abc", 9, 3, "abc", "   ^"),
        ("", 1, 1, "", "^"),
    ],
)
def test_the_caret_counts_columns_as_a_terminal_does(
    line: str, column: int, length: int, shown: str, caret: str
) -> None:
    found, under = caret_of(at(f"{line}\r\nnext", 1, column, length))
    assert (found.rstrip() if shown else "", under) == (shown, caret)


def test_a_very_long_line_is_cut_around_the_caret() -> None:
    found, under = caret_of(at("x" * 100_000 + "HERE" + "y" * 100_000, 1, 100_001, 4))
    assert len(found) < 140 and found.startswith("...x") and found.endswith("y...")
    assert found[under.index("^") : under.index("^") + 4] == "HERE" and under.count("^") == 4


def test_a_blank_line_above_is_left_out() -> None:
    assert "1 |" not in render(at("\na: x", 2, 1))


def test_without_a_place_only_the_sentence_and_the_notes_are_shown() -> None:
    item = Diagnostic("error", "locked", "state/ is in use", notes=("wait, or look at `status`",))
    assert render(item) == "error[locked]: state/ is in use\n  = wait, or look at `status`"


def test_the_line_beyond_the_end_of_a_file_is_empty() -> None:
    assert render(at("a", 2, 1)).splitlines()[-1] == "  | ^"


def test_colour_adds_escapes_and_nothing_else() -> None:
    item = at("a: x", 1, 4, label="here")
    coloured = render(item, colour=True)
    for code in ("\x1b[1;31m", "\x1b[1m", "\x1b[34m", "\x1b[0m"):
        assert code in coloured
        coloured = coloured.replace(code, "")
    assert coloured == render(item)


def test_a_message_cannot_paint_on_the_terminal() -> None:
    assert visible("a\x1b[2Jb\u2066\n") == "a<U+001B>[2Jb<U+2066> "
    assert "\x1b" not in render(at("a", 1, 1, message="\x1b[2J", label="\x1b"))


def test_several_are_parted_by_a_blank_line_and_counted() -> None:
    items = [at("a", 1, 1), at("a", 1, 1), Diagnostic("warning", "w", "careful")]
    assert render_all(items).count("\n\n") == 2
    assert summary(items, "Nothing was planned.") == "2 errors, 1 warning. Nothing was planned."
    assert summary([], "Fine.") == "Fine."
    assert render_all([]) == ""
