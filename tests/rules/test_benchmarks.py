"""The benchmark of the manifest room runs with the code as it is; what it measures is for a quiet machine to say."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rules.project import ROOT


def test_the_plan_of_many_machines_can_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    validate = pytest.importorskip("benchmarks.validate")
    assert Path(sys.modules["benchmarks"].__path__[0]) == ROOT / "benchmarks"
    assert 0 < validate.plan(tmp_path, 2) < 10
