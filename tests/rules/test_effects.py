"""Every field of every type has an effect that a test shows, and docs/resources.md says which."""

from __future__ import annotations

from effects import fields, page, shown

from rules.project import ROOT


def test_every_field_is_shown_by_a_test() -> None:
    missing = sorted(fields().keys() - shown().keys())
    assert not missing, f"no test is marked with `effect` for: {', '.join(missing)}"


def test_no_test_shows_a_field_that_is_not_there() -> None:
    known = fields()
    assert not sorted(shown().keys() - known.keys())


def test_the_page_is_in_step() -> None:
    assert (ROOT / "docs/resources.md").read_text(encoding="utf-8") == page(), "python tests/effects.py > docs/resources.md"
