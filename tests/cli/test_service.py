"""`install-service`: a systemd unit that applies again after a boot, checked by systemd's own tool."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli.builder import Project

FAKE = '#!/bin/sh\necho "$@" >> "$0.log"\n[ "$1" != enable ] || [ ! -e "$0.fails" ] || { echo no bus >&2; exit 1; }\n'


@pytest.fixture
def systemctl(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl that writes down how it was called, and a folder of units that nobody uses."""
    folder = tmp_path_factory.mktemp("systemd")
    for name in ("systemctl", "loginctl"):
        (folder / name).write_text(FAKE)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setenv("SYSTEMD_UNIT_PATH", str(folder / "units"))
    return folder / "systemctl"


@pytest.mark.parametrize("name", ["tale", "a 100% $HOME tale"])
def test_the_unit_is_one_that_systemd_takes_and_starts_the_same_command(project: Project, systemctl: Path, name: str) -> None:
    project.chain().edit("name: tale", f"name: '{name}'")
    odd = project.root / "odd 100% $x"
    odd.mkdir()
    for path in ("manifests", "in.txt"):
        shutil.move(project.root / path, odd / path)
    said = project.run("install-service", str(odd / "manifests" / "albor.yaml"), "--keep-going")
    assert said.exit == 0 and "starts `apply` at every boot" in said.out, said
    (unit,) = (systemctl.parent / "units").iterdir()
    text = unit.read_text()
    assert "odd 100%% $$x/manifests/albor.yaml" in text and "--keep-going" in text and sys.executable in text
    assert [line.rpartition(" ")[2] for line in Path(f"{systemctl}.log").read_text().splitlines()] == ["daemon-reload", unit.name]
    if analyze := shutil.which("systemd-analyze"):
        clean = {key: value for key, value in os.environ.items() if key != "SYSTEMD_UNIT_PATH"}
        checked = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False, env=clean)
        assert unit.name not in checked.stderr, checked.stderr
    assert project.run("install-service", str(odd / "manifests" / "albor.yaml"), "--remove").exit == 0
    assert not unit.exists()


def test_print_installs_nothing(project: Project, systemctl: Path) -> None:
    said = project.chain().run("install-service", "--print", "--state-dir", "other", "--yes")
    assert "Restart=on-failure" in said.out and "--state-dir ROOT/other --yes" in said.out and said.exit == 0
    assert not Path(f"{systemctl}.log").exists() and not (systemctl.parent / "units").exists()


def test_what_stands_in_the_way_is_said(project: Project, systemctl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project.chain()
    said = project.run("install-service", "--remove")
    assert said.exit == 1 and "there is no" in said.err and "albor-tale.service" in said.err
    Path(f"{systemctl}.fails").touch()
    said = project.run("install-service")
    assert said.exit == 1 and "enable albor-tale.service` failed with exit 1" in said.err and "no bus" in said.err, said
    monkeypatch.setenv("PATH", str(project.root))
    said = project.run("install-service")
    assert said.exit == 1 and "there is no systemd on this machine" in said.err and "@reboot" in said.err
