"""Options of the whole test suite. Knows no room of the project."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SLOW = (
    "cli/", "conformance/", "crash/", "property/", "rules/test_imports.py", "stages/test_framework_cli.py",
    "stages/test_plan_is_pure.py", "testbed/", "unit/agent/", "unit/run/", "unit/ui/test_live.py",
)  # fmt: skip
ALL_TORCH = "\npytestmark = pytest.mark.torch\n"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what the golden tests get as what they expect")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--update-golden") and os.environ.get("CI", "").lower() in ("1", "true"):
        raise pytest.UsageError("--update-golden is for people: CI compares goldens and never writes them")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """The inner loop reads no file whose tests are all left out: half of its time would go into imports, torch's above all."""
    left_out = config.getoption("markexpr")
    if collection_path.suffix != ".py" or collection_path.name == "conftest.py":
        return None
    if "not slow" in left_out and _is_slow(collection_path):
        return True
    return True if "not torch" in left_out and ALL_TORCH in collection_path.read_text(encoding="utf-8") else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start processes, or search for inputs, are not in the inner loop."""
    for item in items:
        if _is_slow(item.path):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The agent program, and what running attempts hold of this machine, are kept apart from those of the user's own runs."""
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(cache))
        patch.setenv("ALBOR_TEST_SLOTS", str(cache / "none"))
        yield


def _is_slow(path: Path) -> bool:
    return path.is_relative_to(TESTS) and path.relative_to(TESTS).as_posix().startswith(SLOW)


@pytest.fixture
def update_golden(pytestconfig: pytest.Config) -> bool:
    """True when this run writes goldens instead of comparing them."""
    return bool(pytestconfig.getoption("--update-golden"))
