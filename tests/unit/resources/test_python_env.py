"""python_env: what it does when it is made for real, without a network."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest
from support_kinds import Bench
from wheels import index, wheel

from albor_pipeline.errors import ManifestError
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources.python_env import AS_LOCKED, contents, interpreter

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
TORCH = """
import os
__version__ = "2.3"
class cuda:
    is_available = staticmethod(lambda: os.path.exists({path!r}))
    device_count = staticmethod(lambda: 1)
"""


def bench(root: Path, fields: dict[str, Any], **how: Any) -> Bench:
    return Bench(root, "python_env", fields, **how)


@pytest.mark.slow
@pytest.mark.effect("python_env.path", "python_env.python", "python_env.requirements", "python_env.wheels")
@pytest.mark.effect("python_env.imports", "python_env.gpu")
def test_it_is_made_proven_tried_and_its_later_change_is_named(tmp_path: Path) -> None:
    card, wheels = tmp_path / "card", tmp_path / "wheels"
    for version in ("1.0", "1.1"):
        wheel(wheels, "tiny", version)
    wheel(wheels, "torch", "2.3", TORCH.format(path=str(card)))
    fields = {"path": "e", "python": VERSION, "wheels": "wheels", "requirements": ["tiny==1.0", "torch"]}
    made = bench(tmp_path, fields)
    assert made.seen.exists is False and made.converge() == "" and made.off == {}
    assert made.seen.values["python"] == VERSION
    tried = bench(tmp_path, {**fields, "imports": ["tiny", "tiny.nothing"]})
    assert tried.off == {"imports": "nothing"}
    assert "`import tiny.nothing` fails: ModuleNotFoundError: No module named 'tiny.nothing'" in tried.converge()
    assert made.off == {}, "a check that fails leaves the environment as it was"
    used = bench(tmp_path, {**fields, "imports": ["tiny"]}, gpu_needed=True)
    assert used.off == {"imports": "nothing", "gpu": "nothing"} and "torch 2.3 sees no GPU" in used.converge()
    card.touch()
    operations = used.kind.converge(used.one, used.seen)
    assert [operation["verb"] for operation in operations] == ["sh"], "only the checks are made, not the environment"
    assert used.do(operations) == "" and used.off == {}
    card.unlink()
    assert used.off == {}
    assert bench(tmp_path, {**fields, "imports": ["tiny"]}, gpu_needed=True, deep=True).off == {"gpu": "torch 2.3 sees no GPU"}
    assert contents(used.one) == contents(made.one), "what is checked is no content: no task runs again for it"
    pip = "e/bin/python -m pip -q --no-input --disable-pip-version-check install --no-index --find-links wheels tiny==1.1"
    assert made.do([{"verb": "sh", "script": pip}]) == "" and made.off == {"packages": "tiny 1.0 -> 1.1"}
    assert made.remove() == "" and not list(tmp_path.glob("e*"))


@pytest.mark.slow
@pytest.mark.effect("python_env.index", "python_env.extra_index_url", "python_env.lock")
def test_a_lock_installs_exactly_what_it_has_from_indexes_that_no_list_of_processes_shows(tmp_path: Path) -> None:
    first, second = wheel(tmp_path, "one_of_first", "1.0"), wheel(tmp_path, "one_of_second", "1.0")
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (first, second)]
    lock = tmp_path / "lock.txt"
    lock.write_text("one-of-first==1.0 --hash=sha256:{}\none-of-second==1.0 --hash=sha256:{}\n".format(*digests))
    with index(tmp_path / "a", first) as here, index(tmp_path / "b", second) as there:
        fields = {"lock": "lock.txt", "index_url": here, "extra_index_url": there, "python": sys.executable}
        made = bench(tmp_path, fields)
        assert made.converge() == "" and made.off == {}
        shown = [made.seen.values[name] for name in ("index", "extra_index_url")]
        assert shown == [here.replace("secret", "***"), there.replace("secret", "***")]
        noted = tmp_path / ".albor/env/it/albor-lock.json"
        assert "secret" not in noted.read_text() and noted.stat().st_mode & 0o777 == 0o600
        script = made.kind.converge(made.one, Observation(False))[-1]["script"]
        assert [line for line in script.splitlines() if "secret" in line][:2] == [f"set -- {here}", f"set -- {there}"]
        lock.write_text(lock.read_text().replace(digests[0], digests[0][::-1]))
        assert set(made.off) == {"lock"} and "DO NOT MATCH THE HASHES" in made.converge()
    lock.write_text("tiny==1.0\n")
    with pytest.raises(ManifestError, match=r"locked by `lock\.txt`, which has no hashes"):
        made.kind.wanted(made.one)


def test_a_python_that_is_not_there_is_told_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    old = bench(tmp_path, {"python": "3.2"})
    said = "there is no Python 3.2 here: add a package resource for python3.2 and its venv module, or for uv, which brings one"
    assert (old.says(), old.converge().strip()) == ([said], said)
    named = bench(tmp_path, {"python": "pypy3"})
    assert named.says() == ["there is no pypy3 here: name one that is there, or add a package resource for it"]
    assert bench(tmp_path, {"python": sys.executable}).says() == []
    (tmp_path / "lame").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "lame").chmod(0o755)
    assert bench(tmp_path, {"python": "./lame"}).says()[0].startswith("./lame cannot make environments: add a package resource")


def test_another_version_of_python_in_the_environment_is_seen(tmp_path: Path) -> None:
    made = bench(tmp_path, {"python": "3.11"})
    lock = '{"wanted": {"path": ".albor/env/it", "python": "3.11"}, "dists": {}}'
    seen = made.kind.observe(made.one, [{"python": "3.12.1", "dists": {}}, {"stdout": lock}])
    assert seen.values["python"] == "3.12.1"
    assert made.kind.observe(made.one, [{"python": "3.11.9", "dists": {}}, {"stdout": lock}]).values == made.kind.wanted(made.one)


def test_a_gpu_is_looked_for_only_where_torch_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "reqs.txt").write_text("numpy\ntorch==2.3 # comment\n")
    for fields, expected in (
        ({"requirements": ["numpy"]}, False),
        ({"requirements": ["torchvision", "torch-geometric"]}, False),
        ({"requirements": ["torch>=2"]}, True),
        ({"requirements_file": "reqs.txt"}, True),
        ({"requirements": ["torch"], "gpu": False}, False),
    ):
        assert ("gpu" in bench(tmp_path, fields, gpu_needed=True).kind.wanted(bench(tmp_path, fields, gpu_needed=True).one)) is expected
    assert "gpu" in bench(tmp_path, {"gpu": True}).kind.wanted(bench(tmp_path, {"gpu": True}).one)


def test_the_spelling_of_a_distribution_is_no_change(tmp_path: Path) -> None:
    made = bench(tmp_path, {})
    lock = '{"wanted": {}, "dists": {"Typing_Extensions": "4.1"}}'
    assert made.kind.observe(made.one, [{"dists": {"typing-extensions": "4.1"}}, {"stdout": lock}]).values["packages"] == AS_LOCKED


@pytest.mark.effect("python_env.requirements_file", "python_env.constraints")
def test_a_changed_requirements_file_changes_what_is_wanted(tmp_path: Path) -> None:
    fields = {"requirements": ["numpy>=1.26"], "requirements_file": "reqs.txt", "constraints": "limits.txt"}
    (tmp_path / "limits.txt").write_text("numpy<2\n")
    (tmp_path / "reqs.txt").write_text("pip\n")
    made = bench(tmp_path, fields)
    first = made.kind.wanted(made.one)
    operations = made.kind.converge(made.one, made.seen)
    assert [item.get("data") for item in operations] == [None, None, b"pip\nnumpy>=1.26\n", b"numpy<2\n", None]
    assert "--quiet -r .albor/env/it.requirements.txt -c .albor/env/it.constraints.txt" in operations[-1]["script"]
    (tmp_path / "reqs.txt").write_text("wheel\n")
    second = made.kind.wanted(made.one)
    assert {name for name in first if first[name] != second[name]} == {"requirements_file"}
    assert first["requirements"] == "numpy>=1.26"


def test_a_requirements_file_that_is_not_there_is_an_error_with_its_place(tmp_path: Path) -> None:
    made = bench(tmp_path, {"requirements_file": "reqs.txt"})
    with pytest.raises(ManifestError) as caught:
        made.kind.wanted(made.one)
    assert "m.yaml:4" in str(caught.value.diagnostics[0].span)


@pytest.mark.parametrize(
    "fields",
    [
        *({"requirements": [item]} for item in ("-r x", " --pre", "a\nb", "a\\", "a #>=2", "#a", "a${HOME}", "a\rb")),
        {"requirements": "numpy"}, {"path": ""}, {"imports": ["os; x"]}, {"imports": ["-c"]}, {"index": "http://a b"},
        {"lock": "a.txt", "requirements": ["numpy"]}, {"wheels": "w", "extra_index_url": "http://a"},
    ],
)  # fmt: skip
def test_fields_that_cannot_be_meant_are_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    with pytest.raises(ManifestError):
        bench(tmp_path, fields)


def test_the_interpreter_lies_in_the_environment(tmp_path: Path) -> None:
    assert interpreter(bench(tmp_path, {"path": "envs/a/"}).one.fields) == "envs/a/bin/python"


def test_a_folder_that_is_no_environment_is_neither_replaced_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "years.csv").write_text("1\n")
    made = bench(tmp_path, {"path": "data"})
    assert "data is there and is no Python environment, so it is not removed: move it away" in made.converge()
    assert "data is there and is no Python environment" in made.remove()
    assert (tmp_path / "data" / "years.csv").read_text() == "1\n"
    cut = bench(tmp_path, {"path": "cut"})
    (tmp_path / "cut" / "bin").mkdir(parents=True)
    assert cut.remove() == "" and not (tmp_path / "cut").exists()


def test_files_of_the_workdir_are_not_taken_for_modules_of_python(tmp_path: Path) -> None:
    (tmp_path / "venv.py").write_text("raise SystemExit('mine')\n")
    assert bench(tmp_path, {"path": "e", "python": VERSION}).says() == []
    made = bench(tmp_path, {"path": "e"})
    assert '"$python" -I -m venv' in str(made.kind.converge(made.one, Observation(False)))


def test_an_index_is_recorded_without_its_password_and_another_password_asks_for_the_same_packages(tmp_path: Path) -> None:
    def recorded(password: str) -> str:
        made = bench(tmp_path, {"path": "e", "index": f"https://ann:{password}@index.test/simple"})
        return made.kind.wanted(made.one)["index"]

    assert recorded("secret") == recorded("other") == "https://ann:***@index.test/simple"
    plain = bench(tmp_path, {"path": "e", "index": "https://index.test/simple"})
    assert plain.kind.wanted(plain.one)["index"] == "https://index.test/simple"


def test_a_path_that_its_tasks_could_not_follow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="without `~`, which its tasks could not follow"):
        bench(tmp_path, {"path": "~/env"})
