"""Nothing to do where things are made, here and on another machine: not even the manifest is read, and every change is noticed."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from sshd import Network

from cli.builder import Project, Said

SETTLED_S = 2.2
NOTHING = "Nothing to do: 4 unchanged.\n"
HEAD = "machines: {lambda: {addr: lambda}}\n"
THINGS = """
here: {{type: file, path: {there}/here, content: here, mode: "0640"}}
far: {{type: file, machine: lambda, path: {there}/far, content: far}}
copy: {{type: file, machine: lambda, path: {there}/copy, source: source.txt}}
tree: {{type: file, machine: lambda, path: {there}/tree, state: directory, source: tree}}
"""


@dataclass(frozen=True)
class Place:
    """A project, where its things lie, and the machine."""

    project: Project
    there: Path
    network: Network


Change = Callable[[Place], object]


def lead_astray(place: Place) -> None:
    """The name means a machine that is not there."""
    text = place.network.config.read_text()
    other = place.project.root / "config"
    other.write_text(text.replace("HostName 127.0.0.1", "HostName 127.0.0.2\n  ConnectTimeout 1"))
    place.network.config.rename(place.project.root / "before")
    other.rename(place.network.config)


CHANGES: Mapping[str, Change] = {
    "a content here": lambda place: (place.there / "here").write_text("her"),
    "a mode here": lambda place: (place.there / "here").chmod(0o600),
    "a content there": lambda place: (place.there / "far").write_text("fax"),
    "a thing that is gone there": lambda place: (place.there / "copy").unlink(),
    "a file in a folder there": lambda place: (place.there / "tree/in/one").write_text("two\n"),
    "a source": lambda place: place.project.file("source.txt", "another\n"),
    "a file in a source": lambda place: place.project.file("tree/in/one", "another\n"),
    "a file more in a source": lambda place: place.project.file("tree/in/two", "two\n"),
    "an empty folder more in a source": lambda place: (place.project.root / "tree/more").mkdir(),
}


def run(place: Place, *argv: str) -> Said:
    with contextlib.chdir(place.project.root):
        return place.project.run("apply", *argv)


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Place]]:
    """Projects in which all is made, and in which that was found once since nothing was young any more."""
    network = Network(tmp_path_factory.mktemp("net"))
    network.add("lambda")
    found: dict[str, Place] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALBOR_SSH_CONFIG", str(network.config))
        for name in [*CHANGES, "nothing", "no agent there", "no ssh", "elsewhere"]:
            project = Project(tmp_path_factory.mktemp("things"))
            place = found[name] = Place(project, tmp_path_factory.mktemp("there"), network)
            project.manifest(THINGS.format(there=place.there), HEAD).file("source.txt", "source\n").file("tree/in/one", "one\n")
            assert run(place).exit == 0
        time.sleep(SETTLED_S)
        for place in found.values():
            assert run(place) == Said(NOTHING, "", 0)
        yield found.__getitem__
        for place in found.values():
            place.project.close()
        network.close()


@pytest.mark.usefixtures("no_session")
def test_without_a_change_the_manifest_is_not_even_read(settled: Callable[[str], Place]) -> None:
    assert run(settled("nothing")) == Said(NOTHING, "", 0)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_noticed_and_put_right(settled: Callable[[str], Place], name: str) -> None:
    place = settled(name)
    CHANGES[name](place)
    assert run(place).out != NOTHING
    assert run(place, "--yes").exit == 0
    assert run(place) == Said(NOTHING, "", 0)


def test_a_machine_that_lost_its_agent_gets_it_again(settled: Callable[[str], Place]) -> None:
    place = settled("no agent there")
    shutil.rmtree(place.network.boxes["lambda"].home / ".cache")
    assert run(place) == Said(NOTHING, "", 0)


def test_without_the_systems_ssh_the_plan_is_made(settled: Callable[[str], Place], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(settled("no ssh").there))
    assert run(settled("no ssh")) == Said(NOTHING, "", 0)


def test_a_name_that_means_another_machine_is_noticed(settled: Callable[[str], Place]) -> None:
    place = settled("elsewhere")
    lead_astray(place)
    said = run(place)
    (place.project.root / "before").rename(place.network.config)
    assert said.exit == 6 and "lambda does not answer" in said.err, said
