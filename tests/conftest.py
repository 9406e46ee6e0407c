"""Options of the whole test suite. Knows no room of the project."""

from __future__ import annotations

import os

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what the golden tests get as what they expect")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--update-golden") and os.environ.get("CI", "").lower() in ("1", "true"):
        raise pytest.UsageError("--update-golden is for people: CI compares goldens and never writes them")


@pytest.fixture
def update_golden(pytestconfig: pytest.Config) -> bool:
    """True when this run writes goldens instead of comparing them."""
    return bool(pytestconfig.getoption("--update-golden"))
