"""Containers by a real engine, from nothing to gone; only where one answers, so only in test-all."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli.boxes import SETTINGS
from cli.builder import Project

IMAGE, NAME = "localhost/albor-test:1", "albor-test"
FIELDS = "type: docker, name: albor-test, image: 'localhost/albor-test:1'"
pytestmark = pytest.mark.soak


def call(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(scope="module", params=("docker", "podman"))
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An engine that answers, found by the name docker or podman alone, with an image of one program."""
    path = shutil.which(request.param)
    programs = tmp_path_factory.mktemp("bin")
    (programs / "containers.conf").write_text(SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_CONF", str(programs / "containers.conf"))
        if path is None or subprocess.run([path, "ps", "-q"], capture_output=True, check=False).returncode != 0:
            pytest.skip(f"no {request.param} answers here")
        (programs / "docker").symlink_to(path)
        whole = io.BytesIO()
        sleep = str(Path(shutil.which("sleep") or "/bin/sleep").resolve())
        needed = [word for line in call("ldd", sleep).splitlines() for word in line.split() if word.startswith("/")]
        with tarfile.open(fileobj=whole, mode="w") as tar:
            for name in (sleep, *needed):
                tar.add(os.path.realpath(name), name.lstrip("/"))
        change = "CMD " + json.dumps([sleep, "1000"])
        subprocess.run([path, "import", "--change", change, "-", IMAGE], input=whole.getvalue(), capture_output=True, check=True)
        patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        yield path
        for words in (["rm", "-f", NAME], ["rmi", IMAGE]):
            subprocess.run([path, *words], capture_output=True, check=False)


def facts(engine: str) -> dict[str, object]:
    return dict(json.loads(call(engine, "inspect", NAME))[0])


@pytest.mark.effect("docker.name", "docker.state", "docker.image", "docker.environment", "docker.volumes")
@pytest.mark.effect("docker.restart", "docker.command")
def test_a_container_comes_is_left_alone_healed_and_goes(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """6.3: no drift after a restart, no conflict of a container that is made again."""
    monkeypatch.chdir(tmp_path)
    more = "environment: ['A=x y \"$(id)`'], volumes: [/tmp:/data:ro], restart: on-failure:3"
    tale = Project(tmp_path).manifest(f"box: {{{FIELDS}, {more}}}")

    def applies(word: str) -> None:
        said = tale.run("apply", "--yes")
        assert (said.exit, word in said.out + said.err) == (0, True), said

    applies("created")
    first = facts(engine)
    assert 'A=x y "$(id)`' in first["Config"]["Env"]  # type: ignore[index]
    assert not list((tmp_path / ".albor/docker").iterdir())
    applies("Nothing to do")
    call(engine, "restart", "-t", "0", NAME)
    applies("Nothing to do")
    assert tale.run("drift").exit == 0
    call(engine, "stop", "-t", "0", NAME)
    assert "state: recorded running, found stopped" in tale.run("drift").out
    applies("updated")
    assert facts(engine)["Id"] == first["Id"]
    sleep = str(first["Path"])
    tale.edit("A=x y", "B=x y").edit("restart: on-failure:3", f"command: '{sleep} \"600\"'")
    applies("updated")
    second = facts(engine)
    assert (second["Id"] != first["Id"], second["Path"], second["Args"]) == (True, sleep, ["600"])
    tale.edit("type: docker", "type: docker, state: stopped")
    applies("updated")
    assert (facts(engine)["Id"], facts(engine)["State"]["Running"]) == (second["Id"], False)  # type: ignore[index]
    tale.edit("state: stopped", "state: absent")
    applies("")
    assert NAME not in call(engine, "ps", "-a", "--format", "{{.Names}}").splitlines()
    applies("Nothing to do")


def test_a_container_that_ends_at_once_fails_with_its_last_words(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sleep = json.loads(call(engine, "image", "inspect", IMAGE))[0]["Config"]["Cmd"][0]
    said = Project(tmp_path).manifest(f"box: {{{FIELDS}, command: '{sleep} no-number'}}").run("apply")
    ended = f"the container {NAME} was started and is " in said.err
    assert (said.exit, "invalid time interval" in said.err, ended) == (3, True, True), said
    call(engine, "rm", "-f", NAME)


def test_what_triggers_a_container_restarts_it_and_makes_none(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """6.3: a restart was in conflict with the container that was there."""
    monkeypatch.chdir(tmp_path)
    tale = Project(tmp_path).manifest(f"conf: {{type: file, path: conf, content: a}}\nbox: {{{FIELDS}, triggers: [conf]}}")
    assert tale.run("apply").exit == 0
    first = facts(engine)
    assert tale.edit("content: a", "content: b").run("apply").exit == 0
    second = facts(engine)
    started = [str(seen["State"]["StartedAt"]) for seen in (first, second)]  # type: ignore[index]
    assert (first["Id"], started[0]) < (second["Id"], started[1]) and first["Id"] == second["Id"]
    call(engine, "rm", "-f", NAME)


def test_an_image_that_cannot_be_had_leaves_the_old_container(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tale = Project(tmp_path).manifest(f"box: {{{FIELDS}}}")
    assert tale.run("apply").exit == 0
    first = facts(engine)["Id"]
    assert tale.edit("albor-test:1'", "albor-test-none:1'").run("apply", "--yes").exit == 3
    assert facts(engine)["Id"] == first
    call(engine, "rm", "-f", NAME)
