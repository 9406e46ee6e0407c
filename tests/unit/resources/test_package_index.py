"""What package indexes have: asked of a real pip and of what uv said, and told only where it is certain."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support_kinds import Bench
from wheels import index, wheel

from albor_pipeline.agent.layout import Layout
from albor_pipeline.agent.probe import Prober
from albor_pipeline.model.observed import Observation
from albor_pipeline.model.plan import Plan, Step
from albor_pipeline.resources.base import Item
from albor_pipeline.resources.package_index import against, against_files, simple
from albor_pipeline.resources.package_manager import Wish
from albor_pipeline.resources.package_user import PIP_ADVICE, UV_ADVICE
from albor_pipeline.run.forecast import _asked, _waiting
from albor_pipeline.run.session import Session

NEW = Observation(False)
NOWHERE = "http://127.0.0.1:9/simple"
# As uv 0.13 and uv 0.4 wrote it.
REFUSED = """\
error: No solution found when resolving dependencies
  cause: Because {} and you require {}, we can conclude that your requirements are unsatisfiable.
"""
OLDER = """\
  \u00d7 No solution found when resolving dependencies:
  \u2570\u2500\u25b6 Because tiny was not found in the package
      registry and you require tiny, we can conclude that the requirements are unsatisfiable.
"""


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An index that has `tiny_thing` 1.0 and 2.0, and `other` for no Python of today; pip knows of no other one."""
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    wheels = [wheel(tmp_path / "made", "tiny_thing", version) for version in ("1.0", "2.0")]
    old = wheel(tmp_path / "made", "other", "1.0")
    with index(tmp_path / "shelf", *wheels, old.rename(old.with_name("other-1.0-cp27-cp27m-any.whl"))) as address:
        monkeypatch.setenv("PIP_INDEX_URL", address)
        yield address


def pip(root: Path, *packages: str, **fields: Any) -> list[str]:
    return Bench(root, "package", {"provider": "pip", "packages": list(packages), **fields}).says()


def environment(root: Path, *requirements: str, **fields: Any) -> Bench:
    return Bench(root, "python_env", {"python": sys.executable, "requirements": list(requirements), **fields})


@pytest.mark.slow
def test_pip_tells_what_no_index_has_and_nothing_where_one_does_not_answer(
    tmp_path: Path, shelf: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pip(tmp_path, "Tiny.Thing", "tiny-thing==2.0.0", "tiny_thing==1.*") == []
    assert pip(tmp_path, "absent", "tiny-thing==9", "other") == [
        "no package index has `absent`",
        "no package index has version 9 of `tiny-thing` for this Python: there is 2.0, 1.0",
        "no package index has `other` for this Python",
    ]
    assert pip(tmp_path, "tiny_thing", version="3.1") == [
        "no package index has version 3.1 of `tiny_thing` for this Python: there is 2.0, 1.0"
    ]
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", NOWHERE)
    assert pip(tmp_path, "absent", "tiny-thing==9") == [], "the second index may have it"
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", (tmp_path / "shelf/simple").as_uri())
    assert pip(tmp_path, "absent") == ["no package index has `absent`"]
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", (tmp_path / "later/simple").as_uri())
    assert pip(tmp_path, "absent") == [], "a folder that is not there may come"


@pytest.mark.slow
def test_an_environment_asks_its_own_indexes_and_no_password_comes_back(
    tmp_path: Path, shelf: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", NOWHERE)
    wanted = ("tiny-thing==1", "tiny-thing==9", "absent[x]>2", "never; python_version < '3'")
    made = environment(tmp_path, *wanted, index=shelf)
    asked = made.kind.forecasts(made.one, NEW)
    answers = Prober(Layout(str(tmp_path))).look(asked)
    assert len(asked) == 1 and "secret" in asked[0]["script"] and "secret" not in json.dumps(answers), answers
    said = ["no package index has version 9 of `tiny-thing` for this Python: there is 2.0, 1.0", "no package index has `absent`"]
    assert made.kind.forecast(made.one, NEW, answers) == said
    assert environment(tmp_path, *wanted, index=shelf, extra_index_url=NOWHERE).says() == []
    assert environment(tmp_path, *wanted).says() == []
    version = ".".join(map(str, sys.version_info[:2]))
    assert environment(tmp_path, *wanted, index=shelf, python=version).says() == said


def fake(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    """A program that is found before the machine's own."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_without_pip_an_environment_says_nothing_and_a_package_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path / "bin", monkeypatch, "python3", 'case $* in *"-m pip"*|*subprocess*) echo "no pip" >&2; exit 1 ;; esac\n')
    assert environment(tmp_path, "absent", python="python3").says() == []
    assert pip(tmp_path, "absent") == [PIP_ADVICE]
    one = Bench(tmp_path, "package", {"provider": "pip", "packages": ["absent"]})
    for answers in ([], [{}], [{"exit": None, "timed_out": True}], [{"exit": 0, "stdout": "x"}]):
        assert one.kind.forecast(one.one, NEW, answers) == []
    environments = environment(tmp_path, "absent")
    assert environments.kind.forecast(environments.one, NEW, [{"exit": None, "timed_out": True, "stderr": "cut"}]) == []


def test_an_environment_without_a_python_yet_asks_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv would bring the Python, so no pip there is of its version; that of the environment is, once it is made."""
    fake(tmp_path / "bin", monkeypatch, "uv", "exit 9\n")
    asked = "tiny==1\n"
    made = environment(tmp_path, "tiny==1", python="3.99")
    assert made.says() == []
    told = json.dumps({asked.strip(): {"whole": True, "named": True, "versions": ["2"]}})
    own = tmp_path / ".albor/env/it/bin"
    own.mkdir(parents=True)
    fake(own, monkeypatch, "python", f"case $* in *version_info*) echo 3.99.1 ;; *) echo '{told}' ;; esac\n")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    assert made.kind.forecast(made.one, NEW, Prober(Layout(str(tmp_path))).look(made.kind.forecasts(made.one, NEW))) == [
        "no package index has version 1 of `tiny` for this Python: there is 2"
    ]


def test_what_is_there_already_is_not_asked_for(tmp_path: Path) -> None:
    for provider in ("pip", "uv", "apt", "cargo"):
        made = Bench(tmp_path, "package", {"provider": provider, "packages": ["tiny", "other"]})
        there = Observation(True, {"tiny": "present", "other": "present"})
        assert made.kind.forecasts(made.one, there) == made.kind.forecast(made.one, there, []) == []
        some = made.kind.forecasts(made.one, Observation(True, {"tiny": "present"}))[0]["script"]
        assert "tiny" not in some and ("other" in some) is (provider != "cargo"), some
    made = environment(tmp_path, "tiny", imports=["tiny"])
    checked = Observation(True, {**made.kind.wanted(made.one), "imports": "nothing"})
    assert "tiny" not in made.kind.forecasts(made.one, checked)[0]["script"]
    assert "tiny" in made.kind.forecasts(made.one, NEW)[0]["script"]


@pytest.mark.parametrize(
    ("said", "wish", "told"),
    [
        (REFUSED.format("tiny was not found in the package registry", "tiny"), "tiny", ["no package index has `tiny`"]),
        (REFUSED.format("tiny was not found in the provided package locations", "tiny"), "tiny", ["no package index has `tiny`"]),
        (OLDER, "tiny", ["no package index has `tiny`"]),
        (REFUSED.format("there is no version of tiny==9", "tiny==9"), "tiny==9", ["no package index has version 9 of `tiny`"]),
        (REFUSED.format("only tiny<=2.0 is available", "tiny==9.*"), "tiny==9.*", ["no package index has version 9.* of `tiny`"]),
        (REFUSED.format("tiny was not found in the cache", "tiny"), "tiny", []),
        (REFUSED.format("tiny==9 has no usable wheels and building from source is disabled", "tiny==9"), "tiny==9", []),
        (REFUSED.format("tiny was not found in the package registry", "tiny") + "\nhint: it wants a password\n", "tiny", []),
        ("tiny", "tiny", []),
    ],
)
def test_uv_is_asked_and_its_refusals_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, wish: str, told: list[str]
) -> None:
    (tmp_path / "said").write_text(said)
    body = f'[ "$1" = pip ] || exit 0\nread -r asked; echo "$asked" >> {tmp_path}/asked; echo tiny; cat {tmp_path}/said >&2\n'
    fake(tmp_path / "bin", monkeypatch, "uv", f"{body}[ -s {tmp_path}/ok ]\n")
    made = Bench(tmp_path, "package", {"provider": "uv", "packages": [wish]})
    assert made.says() == told and (tmp_path / "asked").read_text() == f"{wish}\n"
    (tmp_path / "ok").write_text("yes")
    assert made.says() == [], "what uv resolves it can install"


def test_uv_is_asked_no_more_once_an_index_cannot_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = REFUSED.format("one was not found in the package registry", "one").strip()
    body = f'[ "$1" = pip ] || exit 0\nread -r asked; echo "$asked" >> {tmp_path}/asked; echo "{refusal}" >&2\n'
    fake(tmp_path / "bin", monkeypatch, "uv", f'{body}[ "$asked" = one ] || exit 2\nexit 1\n')
    made = Bench(tmp_path, "package", {"provider": "uv", "packages": ["one", "two", "three"]})
    assert made.says() == ["no package index has `one`"] and (tmp_path / "asked").read_text() == "one\ntwo\n"
    assert made.kind.forecast(made.one, NEW, [{"exit": 127}]) == [UV_ADVICE]


def test_the_files_of_a_folder_of_wheels_are_told_without_asking(tmp_path: Path) -> None:
    for version in ("1.0", "2.0"):
        wheel(tmp_path / "wheels", "tiny_thing", version)
    (tmp_path / "wheels/Old.Thing-0.1.tar.gz").touch()
    wanted = ("Tiny.Thing==2", "tiny-thing==3", "old-thing", "absent", "more @ https://x/more.whl")
    made = environment(tmp_path, *wanted, wheels="wheels")
    assert "tiny" not in made.kind.forecasts(made.one, NEW)[0]["script"]
    assert made.says() == [
        "no file in `wheels` is version 3 of `tiny-thing`: there is 1.0, 2.0", "no file in `wheels` is `absent`",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "wishes"),
    [
        ("numpy\nNumPy==1.26.0 # pinned\n\n# none\n", ["numpy", "NumPy==1.26.0"]),
        ("numpy>=1,<2\ntorch ~= 2.1\nx (>=1)\ny===1\nz != 2\n", ["numpy", "torch", "x", "y", "z"]),
        ("torch[gpu] == 2.*\na==1,!=2\n", ["torch==2.*", "a"]),
        ("a==1 \\\n  --hash=sha256:ab \\\n  --hash=sha256:cd\nb==2\n", ["a==1", "b==2"]),
        ("a; python_version < '3'\na==1 ; x\nb @ https://x/b.whl\nhttps://x/c\n./d\ngit+https://x/e\nf.whl\ng.tar.gz\n${H}\nh==${V}\n", []),
        ("-c x\n-e .\n-r more.txt\n--pre\n--require-hashes\na\n", ["a"]),
        *((f"a\n{line}\n", []) for line in ("-i http://x", "--index-url=x", "--extra-index-url x", "-f x", "--find-links x", "--no-index")),
        ("a --config-settings=x=y\n", ["a"]),
    ],
)
def test_the_requirements_that_can_be_asked_for(text: str, wishes: list[str]) -> None:
    assert simple(text) == [Wish(name, version) for name, _, version in (wish.partition("==") for wish in wishes)]


def test_a_version_that_an_index_spells_in_another_way_is_there(tmp_path: Path) -> None:
    def has(wanted: str, *versions: str) -> bool:
        answer = {f"a=={wanted}": {"whole": True, "named": True, "versions": list(versions)}}
        return against([Wish("a", wanted)], json.dumps(answer)) == []

    there = [("2.3", "2.3.0+cu121"), ("2024.01.05", "2024.1.5"), ("1.*", "1"), ("1.*", "1.2rc1"), ("1.0.0", "1"), ("10.*", "10.2"),
             ("1.0-rc.1", "1.0rc1"), ("2.0+x", "2.0")]  # fmt: skip
    assert [pair for pair in there if not has(*pair)] == []
    assert [pair for pair in [("2.3", "2.30"), ("1.*", "10.1"), ("1.0", "1.0.post1"), ("1.0", "1!1.0"), ("20", "2")] if has(*pair)] == []
    many = against([Wish("a", "9")], json.dumps({"a==9": {"whole": True, "versions": list("87654321")}}))
    assert many == ["no package index has version 9 of `a`: there is 8, 7, 6, 5, 4"]
    assert against_files([Wish("b-c", "2")], "w", ["b_c-2-1-py3-none-any.whl", "b", "b.whl"]) == []


@pytest.mark.parametrize("answer", ["", "[]", "3", "{", '{"a": 3}', '{"a": {"whole": false}}', '{"a": null}', '{"b": {"whole": 1}}', None])
def test_an_odd_answer_says_nothing(answer: str | None) -> None:
    assert against([Wish("a")], answer) == []


def test_it_is_asked_with_the_rights_that_it_is_installed_with(tmp_path: Path) -> None:
    """What pip may be told of indexes stands in files of the account that it runs as."""
    asked: list[Item] = []

    def probe(_machine: str, items: list[Item]) -> list[dict[str, Any]]:
        asked.extend(items)
        return [{"exit": 1} for _item in items]

    made = Bench(tmp_path, "package", {"provider": "pip", "packages": ["tiny"], "sudo": True}).one
    instance: Callable[[object], object] = lambda _key: made  # noqa: E731
    observer = SimpleNamespace(found=SimpleNamespace(infra={}), instance=instance)
    session = cast(Session, SimpleNamespace(observer=observer, fleet=SimpleNamespace(probe=probe)))
    problems, _brought = _asked(session, "localhost", [cast(Step, SimpleNamespace(key=None))], ())
    assert [item.get("sudo") for item in asked] == [True]
    assert [problem.message for problem in problems] == [f"`it` on localhost: {PIP_ADVICE}"]


def test_what_an_earlier_package_of_the_plan_may_bring_is_not_lacking() -> None:
    def step(name: str, kind: str, *after: str) -> Step:
        return cast(Step, SimpleNamespace(key=name, kind=kind, after=after))

    steps = [step("apt", "package"), step("note", "file"), step("folder", "file", "note"), step("pip", "package", "link"),
             step("env", "python_env", "pip"), step("alone", "python_env", "folder")]  # fmt: skip
    plan = cast(Plan, SimpleNamespace(steps=[step("link", "file", "apt"), *steps]))
    assert _waiting(plan, steps) == {"link", "pip", "env"}
    assert _waiting(plan, steps[1:3]) == set(), "packages that are there bring nothing more"
