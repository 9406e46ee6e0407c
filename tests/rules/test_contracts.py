"""Every contract is well formed and names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rules.project import ROOT, missing_tests, shown

FILES = sorted((ROOT / "contracts").glob("*.yaml"))


def _contracts(path: Path) -> list[dict[str, Any]]:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(document) == {"contracts"}
    return list(document["contracts"])


def test_there_are_contracts() -> None:
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_a_contract_has_an_id_a_statement_and_tests_that_exist(path: Path) -> None:
    for contract in _contracts(path):
        assert set(contract) == {"id", "statement", "tests"}, contract
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", contract["id"])
        assert len(contract["statement"].split()) >= 5 and contract["statement"].strip().endswith(".")
        assert contract["tests"], contract["id"]
        assert all(name.startswith("tests/") and "::" in name for name in contract["tests"])
        assert missing_tests(" ".join(contract["tests"])) == []


def test_no_two_contracts_have_the_same_id() -> None:
    ids = [contract["id"] for path in FILES for contract in _contracts(path)]
    assert sorted(ids) == sorted(set(ids))
