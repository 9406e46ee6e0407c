"""What the docs name is there: tests in docs/gaps.md and docs/forjar.md, files behind links, the decisions' numbers."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rules.project import FOLDERS, ROOT, missing_tests, shown

PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *(ROOT / "contracts").glob("*.md"), ROOT / "README.md"])
REQUIRED = ("architecture.md", "state-format.md", "threat-model.md", "gaps.md", "forjar.md", "decisions")


def _rows(page: str) -> list[list[str]]:
    """The rows of every table of the page, without the heads."""
    lines = [line for line in (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    rules = [number for number, line in enumerate(lines) if set(line) <= set("|-: ")]
    heads = {number for rule in rules for number in (rule - 1, rule)}
    return [[cell.strip() for cell in line.strip("|").split("|")] for number, line in enumerate(lines) if number not in heads]


@pytest.mark.parametrize("name", REQUIRED)
def test_the_page_is_there(name: str) -> None:
    assert (ROOT / "docs" / name).exists()


def test_every_gap_names_a_cause_and_a_test_that_exists() -> None:
    rows = _rows("gaps.md")
    assert len(rows) >= 10
    for row in rows:
        assert len(row) == 3 and all(row), row
        assert "::" in row[2], row
        assert missing_tests(row[2]) == [], row[0]


def test_no_gap_is_listed_twice() -> None:
    ids = [row[0] for row in _rows("gaps.md")]
    assert sorted(ids) == sorted(set(ids))


def test_every_difference_from_forjar_says_why_and_names_a_test_that_exists() -> None:
    rows = _rows("forjar.md")
    assert len(rows) >= 10
    for row in rows:
        assert len(row) == 4 and all(row), row
        assert "::" in row[3], row
    assert missing_tests((ROOT / "docs" / "forjar.md").read_text(encoding="utf-8")) == []


def test_no_difference_from_forjar_is_listed_twice() -> None:
    listed = [row[0] for row in _rows("forjar.md")]
    assert sorted(listed) == sorted(set(listed))


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if "://" not in target and not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_path_of_the_code_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(rf"`((?:{'|'.join(set(FOLDERS) - {'manifests'})})/[\w./-]+)`", page.read_text(encoding="utf-8"))
    assert sorted(name for name in set(named) if not (ROOT / name).exists()) == []


def test_decisions_are_numbered_without_a_hole() -> None:
    numbers = [int(path.name[:4]) for path in sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))
