"""`doctor`: what is well in one line each, what is not with a way out, and an exit code that a script can use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sshd import Box, Network

from albor_pipeline.run.doctor import FINE, WARNING, WRONG, torch
from cli.builder import Project

TASK = "t: {type: task, machine: lambda, command: 'true'}"
HEAD = "machines:\n  lambda: {addr: lambda}\n"


def program(box: Box, name: str, text: str) -> None:
    """A program that its sessions find first."""
    path = box.folder / "bin" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def findings(project: Project, exit: int = 0) -> dict[str, tuple[str, str]]:
    """(level, text) by what was looked at, on the first machine named."""
    (machine,) = [one for one in project.json("doctor", exit=exit)["machines"] if one["machine"] == "lambda"]
    return {one["what"]: (one["level"], one["text"]) for one in machine["findings"]}


def test_this_machine_is_fit(project: Project) -> None:
    said = project.chain().run("doctor")
    assert said.exit == 0 and said.err == ""
    assert "localhost\n" in said.out and "clock" in said.out and "as ours" in said.out and said.out.endswith("ok.\n")
    assert not (project.root / "state").exists()


def test_a_machine_elsewhere_is_looked_at_through_the_same_way_as_a_run(project: Project, network: Network) -> None:
    box = network.add("lambda")
    found = findings(project.manifest(TASK, HEAD))
    assert found["reached"][0] == FINE and str(box.home) in found["reached"][1]


def test_which_way_much_data_goes_is_told_and_why_it_is_the_slow_one(
    project: Project, network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.add("lambda")
    assert findings(project.manifest(TASK, HEAD))["transfers"] == (FINE, "over the system's `ssh`")
    (tmp_path / "ssh").write_text("#!/bin/sh\necho it is not to be >&2; exit 255\n")
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    level, text = findings(project)["transfers"]
    assert level == WARNING and text == "over paramiko, which is slower for much data; the system's `ssh`: it is not to be"


def test_a_clock_that_is_an_hour_off_is_told(project: Project, network: Network) -> None:
    program(network.add("lambda"), "date", 'echo $(( $(/bin/date +%s) + 3600 )).0')
    level, text = findings(project.manifest(TASK, HEAD))["clock"]
    assert level == WARNING and "ahead of ours" in text and 3595 < float(text.split()[0].replace(",", "")) < 3605


def test_slots_that_are_not_there_are_told(project: Project, network: Network) -> None:
    network.add("lambda")
    project.manifest(TASK, "machines:\n  lambda: {addr: lambda, slots: {gpu: 7}}\n")
    assert "`slots` says more than there is: gpu 7, found " in project.run("doctor").out


def test_the_driver_is_read_from_what_the_machine_says(project: Project, network: Network) -> None:
    table = "| NVIDIA-SMI 535.1   Driver Version: 535.104.05   CUDA Version: 12.2 |"
    program(network.add("lambda"), "nvidia-smi", f"echo '{table}'")
    assert "driver 535.104.05, CUDA 12.2" in findings(project.manifest(TASK, HEAD))["gpu"][1]


@pytest.mark.parametrize(
    ("says", "name"),
    [
        ("echo 'AMD INSTINCT MI250 (MCM) OAM AC MBA'", "AMD INSTINCT MI250 (MCM) OAM AC MBA"),
        ("exit 1", "AMD card"),
    ],
)
def test_a_card_of_amd_is_read_from_what_the_kernel_says(project: Project, network: Network, says: str, name: str) -> None:
    """As the kernel's documentation of amdgpu has it: cards of servers have a product_name, others have no such file."""
    told = f"*/card*]*]/*) exit 1;; */device/vendor) echo 0x1002;; */device/product_name) {says};;"
    program(network.add("lambda"), "cat", f'case $1 in {told} *) exec /bin/cat "$@";; esac')
    assert findings(project.manifest(TASK, HEAD))["gpu"] == (FINE, f"{name} (AMD: declare it in `slots`, it is not counted by itself)")
    assert "no GPU" not in project.run("doctor").out


def test_a_machine_without_a_card_of_any_maker_is_said_to_have_no_gpu(project: Project, network: Network) -> None:
    box = network.add("lambda")
    program(box, "nvidia-smi", "exit 1")
    program(box, "cat", 'case $1 in */device/vendor) exit 1;; *) exec /bin/cat "$@";; esac')
    assert findings(project.manifest(TASK, HEAD))["gpu"] == (FINE, "no GPU")


def test_an_environment_that_is_not_made_yet_is_told(project: Project, network: Network) -> None:
    network.add("lambda")
    level, text = findings(project.manifest(f"{TASK}\nenv: {{type: python_env, machine: lambda}}", HEAD))["python"]
    assert level == WARNING and text.startswith("env: ")


def test_a_machine_that_is_off_is_6_and_the_others_are_looked_at(project: Project, network: Network) -> None:
    network.add("lambda")
    network.add("intel").stop()
    project.manifest(TASK, f"{HEAD}  intel: {{addr: intel}}\n")
    said = project.run("doctor")
    assert said.exit == 6 and "refuses connections" in said.out and "as ours" in said.out


def test_an_unknown_machine_is_an_error(project: Project) -> None:
    assert "there is no machine `none`" in project.chain().run("doctor", "--machine", "none").err


@pytest.mark.parametrize(
    ("dists", "driver", "gpus", "level", "words"),
    [
        ({"torch": "2.6.0+cu124"}, ("550.54", "12.4"), 1, FINE, "built for CUDA 12.4"),
        ({"torch": "2.6.0+cu126"}, ("535.1", "12.2"), 1, FINE, "built for CUDA 12.6"),
        ({"torch": "2.13.0+cu130"}, ("535.1", "12.2"), 1, WRONG, "driver 535.1 speaks only 12.2"),
        ({"torch": "2.6.0", "nvidia-cuda-runtime-cu12": "12.4.127"}, ("470.1", "11.4"), 1, WRONG, "built for CUDA 12.4"),
        ({"torch": "2.6.0+cu118"}, None, 1, WARNING, "no driver is there"),
        ({"torch": "2.6.0+cu118"}, None, 0, FINE, "no driver is there"),
        ({"torch": "2.13.0+cpu"}, ("550.54", "12.4"), 1, WARNING, "uses no GPU"),
        ({"torch": "2.13.0+cpu"}, None, 0, FINE, "torch 2.13.0+cpu in env"),
        ({"torch": "2.6.0+rocm6.2"}, None, 0, FINE, "rocm"),
    ],
)
def test_torch_and_the_driver(dists: dict[str, str], driver: tuple[str, str] | None, gpus: int, level: str, words: str) -> None:
    (found,) = torch("env", {"dists": dists}, driver, gpus)
    assert found.level == level and words in found.text and bool(found.way) == (level == WRONG or "uses no GPU" in found.text)


def test_without_torch_there_is_nothing_to_say() -> None:
    assert list(torch("env", {"dists": {"numpy": "2.0"}}, None, 1)) == []


def test_the_text_names_a_way_below_what_is_not_well(project: Project, network: Network) -> None:
    network.add("lambda", known=False)
    lines = project.manifest(TASK, HEAD).run("doctor", "--machine", "lambda").out.splitlines()
    assert any("wrong" in line and "host key" in line for line in lines) and any("accept it: " in line for line in lines)
    assert Path(project.root / "state").exists() is False
