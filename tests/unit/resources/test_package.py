"""package: what is asked of machines, what is refused, and the order of Debian's versions."""

from __future__ import annotations

import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support_kinds import Bench

from albor_pipeline.errors import ManifestError
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources.package_apt import Apt

NEW = Observation(False)
POLICY = """\
jq:
  Installed: (none)
  Candidate: 1.6-2.1+deb12u1
  Version table:
     1.6-2.1+deb12u1 500
        500 http://security.debian.org/debian-security bookworm-security/main amd64 Packages
     1.6-2.1 500
        500 http://deb.debian.org/debian bookworm/main amd64 Packages
mail-transport-agent:
  Installed: (none)
  Candidate: (none)
  Version table:
"""
ORDERED = ("1.0~~", "1.0~rc1", "1.0", "1.0a", "1.0+b1", "1.2", "1.10", "1.10-1", "1.10-1ubuntu1", "1:0.1")


@pytest.mark.parametrize("provider", ["apt", "uv", "pip", "cargo"])
def test_any_number_of_resources_asks_one_question(tmp_path: Path, provider: str) -> None:
    asked = {repr(Bench(tmp_path, "package", {"provider": provider, "packages": [name]}).kind.probes(one))
             for name in ("jq", "htop")
             for one in [Bench(tmp_path, "package", {"provider": provider, "packages": [name]}).one]}  # fmt: skip
    assert len(asked) == 1


def test_packages_and_versions_that_no_source_has_are_told_before(tmp_path: Path) -> None:
    def against(**fields: object) -> list[str]:
        made = Bench(tmp_path, "package", {"provider": "apt", **fields})
        return made.kind.forecast(made.one, NEW, [{"exit": 0, "stdout": POLICY}])

    assert against(packages=["jq"]) == against(packages=["jq"], version="1.6-2.1") == against(packages=["jq=1.6*"]) == []
    assert against(packages=["jq"], version="1.7") == [
        "no package source has version 1.7 of `jq`: there is 1.6-2.1+deb12u1, 1.6-2.1"
    ]
    assert against(packages=["htop", "mail-transport-agent"]) == [
        "no package source has `htop`", "no package source has `mail-transport-agent`",
    ]  # fmt: skip
    assert against(packages=["htop"], state="absent") == []
    made = Bench(tmp_path, "package", {"provider": "apt", "packages": ["jq"]})
    assert made.kind.forecast(made.one, NEW, [{"exit": 0, "stdout": ""}]) == [], "lists that were never fetched say nothing"
    assert made.kind.forecast(made.one, NEW, [{"exit": 127, "stdout": ""}])[0].startswith("there is no apt-get on this machine")


def test_a_manager_that_is_not_there_is_told_before(tmp_path: Path) -> None:
    for provider in ("uv", "cargo"):
        made = Bench(tmp_path, "package", {"provider": provider, "packages": ["ruff"]})
        said = made.kind.forecast(made.one, NEW, [{"exit": 127, "stdout": ""}])
        assert said[0].startswith(f"{provider} is not installed here: add a package resource for it")


def test_brew_is_refused_by_name_and_place(tmp_path: Path) -> None:
    made = Bench(tmp_path, "package", {"provider": "brew", "packages": ["jq"]})
    with pytest.raises(ManifestError) as caught:
        made.kind.wanted(made.one)
    assert caught.value.diagnostics[0].message == "`it` has `provider: brew`, which is not supported: one of apt, uv, pip, cargo"
    assert caught.value.diagnostics[0].span is not None


@pytest.mark.parametrize(
    ("provider", "name"),
    [
        ("apt", "jq-"), ("apt", "JQ"), ("apt", "jq/stable"), ("apt", "j"), ("apt", "jq=1 2"), ("apt", "jq[x]"), ("apt", "*"),
        ("uv", "ruff[x]"), ("uv", "ruff>=1"), ("pip", "git+https://x"), ("pip", "./x"), ("cargo", "rip grep"), ("cargo", "--git"),
    ],
)  # fmt: skip
def test_what_a_manager_would_read_as_something_else_is_refused(tmp_path: Path, provider: str, name: str) -> None:
    with pytest.raises(ManifestError):
        Bench(tmp_path, "package", {"provider": provider, "packages": [name]})


def test_done_again_it_fetches_the_lists_and_installs_all(tmp_path: Path) -> None:
    """forjar 1.7: a pinned version counted only where none was installed; a trigger here does everything anew."""
    made = Bench(tmp_path, "package", {"provider": "apt", "packages": ["jq", "htop"], "version": "1.6"})
    (again,) = made.kind.again(made.one, Observation(True, {"jq": "1.6", "htop": "1.6"}))
    assert again["script"].endswith("update\ninstall --allow-downgrades jq=1.6 htop=1.6\n")
    assert made.kind.converge(made.one, Observation(True, {"jq": "1.6", "htop": "1.6"})) == []


def test_versions_are_in_debians_order() -> None:
    assert all(Apt().is_newer(two, one) and not Apt().is_newer(one, two) for one, two in pairwise(ORDERED))


VERSIONS = st.from_regex(r"\A(?:[0-2]:)?[0-9][0-9a-z.+~]{0,6}(?:-[0-9a-z.+~]{1,4})?\Z")


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="no dpkg here to compare with")
@settings(max_examples=40, deadline=None)
@given(one=VERSIONS, two=VERSIONS)
def test_the_order_is_that_of_dpkg(one: str, two: str) -> None:
    newer = subprocess.run(["dpkg", "--compare-versions", one, "gt", two], check=False).returncode == 0
    assert Apt().is_newer(one, two) is newer
