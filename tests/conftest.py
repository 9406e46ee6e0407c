"""Options of the whole test suite. Knows no room of the project."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SLOW = ("cli", "conformance", "crash", "property", "unit/agent", "unit/run")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what the golden tests get as what they expect")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--update-golden") and os.environ.get("CI", "").lower() in ("1", "true"):
        raise pytest.UsageError("--update-golden is for people: CI compares goldens and never writes them")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Folders whose tests start processes, or search for inputs, are not in the inner loop."""
    for item in items:
        if item.path.relative_to(TESTS).as_posix().startswith(tuple(f"{folder}/" for folder in SLOW)):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The agent program, and what running attempts hold of this machine, are kept apart from those of the user's own runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def update_golden(pytestconfig: pytest.Config) -> bool:
    """True when this run writes goldens instead of comparing them."""
    return bool(pytestconfig.getoption("--update-golden"))
