"""What each kind says that converging would bring onto a machine: bytes where somebody tells them before, unknown else, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakehub import Hub, gguf
from support_kinds import Bench

from albor_pipeline.model.observed import Observation
from albor_pipeline.resources.base import Brought

Q4 = gguf("Q4_K_M")
DRIVER = "Inst d (1 x)\nPackage: d\nVersion: 1\nInstalled-Size: 9\n"
MODEL = {"name": "tiny", "source": "ann/tiny", "path": "m.gguf"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        made.offer("ann/tiny", "c1", tiny__gguf=Q4)
        yield made


def test_a_file_weighs_what_is_sent_of_it_and_one_that_is_there_nothing(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/a").write_bytes(b"a" * 1000)
    made = Bench(tmp_path, "file", {"path": "dst", "state": "directory", "source": "src"})
    assert made.brings() == {"dst/a": 1000}
    assert made.converge() == "" and made.brings() == {}


def test_a_model_weighs_what_the_hub_or_the_server_says_and_less_when_a_part_is_there(hub: Hub, tmp_path: Path) -> None:
    made = Bench(tmp_path, "model", MODEL)
    assert made.brings() == {"m.gguf.part/files": len(Q4)}
    assert not list(tmp_path.glob("m.gguf*")), "asking for sizes makes nothing"
    (tmp_path / "m.gguf.part/files").mkdir(parents=True)
    (tmp_path / "m.gguf.part/files/file.part").write_bytes(Q4[:600])
    assert made.brings() == {"m.gguf.part/files": len(Q4) - 600}
    address = f"{hub.url}/ann/tiny/resolve/c1/tiny.gguf"
    assert Bench(tmp_path, "model", {**MODEL, "source": address, "path": "n.gguf"}).brings() == {"n.gguf.part/files": len(Q4)}
    assert made.converge() == "" and made.brings() == {}


def test_a_model_that_is_kept_in_a_cache_weighs_twice(hub: Hub, tmp_path: Path) -> None:
    made = Bench(tmp_path, "model", {**MODEL, "cache_dir": "kept"})
    assert sorted(made.brings().values(), key=str) == [len(Q4), len(Q4)]
    assert made.converge() == "" and made.remove() == ""
    assert sorted(made.brings().values(), key=str) == [0, len(Q4)]


def test_a_model_of_the_machine_weighs_its_files(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    for name in ("a", "b"):
        (tmp_path / "from" / name).write_bytes(b"x" * 500)
    assert Bench(tmp_path, "model", {**MODEL, "source": f"{tmp_path}/from", "path": "m/"}).brings() == {"m.part/files": 1000}


@pytest.mark.parametrize("source", ["ann/none", "http://127.0.0.1:9/m.gguf"])
def test_a_size_that_nobody_tells_is_unknown_at_once(hub: Hub, tmp_path: Path, source: str) -> None:
    assert list(Bench(tmp_path, "model", {**MODEL, "source": source}).brings().values()) == [None]


@pytest.mark.parametrize(("kind", "fields", "answers", "sizes"), [
    ("package", {"provider": "apt", "packages": ["jq"]}, [{"exit": 1, "stdout": ""}], [None]),
    ("package", {"provider": "pip", "packages": ["httpx"]}, [], [None]),
    ("package", {"provider": "apt", "packages": ["jq"], "state": "absent"}, [], []),
    ("python_env", {"requirements": ["torch"]}, [], [None]),
    ("docker", {"name": "c", "image": "redis:7"}, [{"exit": 1}], [None]),
    ("docker", {"name": "c", "image": "redis:7"}, [{"exit": 0}], []),
    ("docker", {"name": "c", "state": "absent"}, [], []),
    ("gpu", {"driver_version": "550", "cuda_version": "12.4"}, [{"exit": 0, "stdout": DRIVER}, {"exit": 1}], [9 << 10, None]),
    ("gpu", {"driver_version": "550", "gpu_backend": "cpu"}, [], []),
    ("github_release", {"repo": "o/n", "binary": "n"}, [{"exit": 0, "stdout": '[["/tmp", 7], ["/usr/local/bin/n", null]]'}], [7, None]),
    ("github_release", {"repo": "o/n", "binary": "n"}, [{"exit": 1, "stdout": "", "stderr": "no"}], [None]),
    ("service", {"name": "ssh"}, [], []),
])  # fmt: skip
def test_what_is_not_there_yet_weighs(
    tmp_path: Path, kind: str, fields: dict[str, Any], answers: list[dict[str, Any]], sizes: list[int | None]
) -> None:
    made = Bench(tmp_path, kind, fields)
    nothing = Observation(False, {"state": "absent"})
    assert len(made.kind.weighs(made.one, nothing)) == len(answers)
    assert [each.size_bytes for each in made.kind.brings(made.one, nothing, answers)] == sizes


def test_an_upgrade_weighs_what_it_grows_by_and_a_package_of_unknown_size_is_unknown(tmp_path: Path) -> None:
    told = (
        "Inst one [1.0] (2.0 Debian:12 [amd64]) []\nInst two (1:3 Debian:12 [all])\n"
        "'http://h/one_2.0_amd64.deb' one_2.0_amd64.deb 500 MD5Sum:0\n"
        "Package: one\nVersion: 2.0\nInstalled-Size: 30\n\nPackage: two\nVersion: 1:3\n\nhad one 10\n"
    )
    made = Bench(tmp_path, "package", {"provider": "apt", "packages": ["one", "two"]})
    assert made.kind.brings(made.one, Observation(False), [{"exit": 0, "stdout": told}]) == [
        Brought("/var/cache/apt/archives", 500, "one_2.0_amd64.deb"),
        Brought("/usr", 20 << 10, "one=2.0"),
        Brought("/usr", None, "two=1:3"),
    ]
