"""Goldens of manifest mistakes: a folder a mistake, with its manifest and the whole text that a user sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from albor_pipeline.errors import ManifestError
from albor_pipeline.manifest.load import load
from albor_pipeline.ui.diagnostics import render_all, summary

HERE = Path(__file__).parent / "manifest"
CASES = sorted(path.parent.name for path in HERE.glob("*/manifest.yaml"))


@pytest.mark.parametrize("case", CASES)
def test_the_report_is_as_reviewed(case: str, monkeypatch: pytest.MonkeyPatch, update_golden: bool) -> None:
    monkeypatch.chdir(HERE / case)
    with pytest.raises(ManifestError) as caught:
        load(Path("manifest.yaml"))
    found = caught.value.diagnostics
    text = f"{render_all(found)}\n{summary(found, 'Nothing was planned.')}\n"
    golden = HERE / case / "diagnostics.txt"
    if update_golden:
        golden.write_text(text)
    assert text == golden.read_text()
