"""Shipped manifests are in order; docs/manifest.md, docs/types.md and docs/manifest.schema.json are what the declarations say now.

A failure names the command that writes the page.
"""

from __future__ import annotations

import pytest

from albor_pipeline.cli import main
from albor_pipeline.resources.registry import KINDS
from rules.project import ROOT

PAGES = {
    "docs/manifest.md": ["schema", "--markdown"],
    "docs/types.md": ["schema", "--markdown", "types"],
    "docs/manifest.schema.json": ["schema"],
}


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_in_step(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(PAGES[page]) == 0
    assert (ROOT / page).read_text(encoding="utf-8") == capsys.readouterr().out, f"albor-pipeline {' '.join(PAGES[page])} > {page}"


def test_the_pages_name_every_type_and_section() -> None:
    page, types = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("manifest.md", "types.md"))
    assert all(f"\n## `{name}`\n" in types for name in KINDS)
    assert all(f"\n## `{name}`\n" in page for name in ("manifest", "machine", "policy", "output", "resource"))
    assert "| `retry.on` | list of (error, timeout, killed, oom, lost, gpu or hang) | `[error, " in types


def test_shipped_manifests_are_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fmt", "--check", *map(str, sorted((ROOT / "manifests").glob("*.yaml")))]) == 0, capsys.readouterr().out
