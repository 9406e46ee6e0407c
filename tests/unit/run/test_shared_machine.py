"""One machine and several pipelines: who waits for whose slots, what is said, and who may go on after a silence."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support_run import Project, task

from albor_pipeline.agent.layout import Layout
from albor_pipeline.agent.lease import Lease

TOP = "machines: { box: { addr: localhost, slots: { gpu: 1, cpu: 8 } } }\n"
HOLD = "touch held; until [ -e go ]; do sleep 0.05; done"


@pytest.fixture
def opened() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Project]:
    """Another pipeline in a folder of its own, whose task holds the only GPU until the test is over."""
    found = Project(tmp_path / "other")
    found.root.mkdir()
    found.manifest(task("owner", HOLD, "machine: box", "needs: { gpu: 1 }"), top=TOP)
    yield found
    (found.root / "go").touch()
    found.quiet()


def hold(other: Project, opened: list[subprocess.Popen[str]]) -> None:
    opened.append(other.start("apply"))
    other.wait((other.root / "held").exists)


def test_a_task_waits_for_the_gpu_of_another_pipeline_while_the_rest_goes_on(
    project: Project, other: Project, opened: list[subprocess.Popen[str]]
) -> None:
    hold(other, opened)
    project.manifest(
        task("train", "echo $CUDA_VISIBLE_DEVICES > gpu.txt", "machine: box", "needs: { gpu: 1 }", "outputs: [gpu.txt]"),
        task("words", "true", "machine: box"),
        top=TOP,
    )
    waiting = project.start("apply")
    opened.append(waiting)
    project.wait(lambda: project.starts() == ["words"])
    assert project.row("train")["status"] == "pending"
    (other.root / "go").touch()
    out, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0, err
    assert f"waiting    0 of 1 GPU free, 1 wanted; held by owner in {other.root} (run 0001, since " in err
    assert err.count(" waiting ") == 1 and "Done: 2 done." in out
    assert (project.root / "gpu.txt").read_text() == "0\n" and project.starts() == ["words", "train"]


def test_a_task_that_names_its_card_waits_for_that_one_though_another_is_free(
    project: Project, other: Project, opened: list[subprocess.Popen[str]]
) -> None:
    hold(other, opened)
    top = TOP.replace("gpu: 1", "gpu: 2")
    assert top != TOP
    project.manifest(task("train", "echo $CUDA_VISIBLE_DEVICES > gpu.txt", "machine: box", "gpu_device: 0", "outputs: [gpu.txt]"), top=top)
    waiting = project.start("apply")
    opened.append(waiting)
    journal = project.root / "state" / "journal" / "0001.jsonl"
    project.wait(lambda: journal.exists() and '"waiting"' in journal.read_text())
    time.sleep(5)
    assert journal.read_text().count('"waiting"') == 1
    (other.root / "go").touch()
    _, err = waiting.communicate(timeout=60)
    assert waiting.returncode == 0 and f"waiting    GPU 0 is held by owner in {other.root} (run 0001, since " in err, err
    assert (project.root / "gpu.txt").read_text() == "0\n"


def test_a_wait_ends_with_ctrl_c_and_a_failure_elsewhere_and_leaves_nothing_begun(
    project: Project, other: Project, opened: list[subprocess.Popen[str]]
) -> None:
    hold(other, opened)
    train = task("train", "true", "machine: box", "needs: { gpu: 1 }")
    project.manifest(train, task("bad", "sleep 0.5; false", "machine: box"), top=TOP)
    said = project.run("apply")
    assert said.code == 3 and "1 failed, 1 not started" in said.out
    project.manifest(train, top=TOP)
    waiting = project.start("apply")
    opened.append(waiting)
    journal = project.root / "state" / "journal" / "0001.jsonl"
    project.wait(lambda: journal.read_text().count('"waiting"') == 2)
    os.killpg(waiting.pid, signal.SIGINT)
    out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 130 and "Interrupted: 1 forgotten, 1 not started." in out
    (other.root / "go").touch()
    other.quiet()
    assert project.actions()["train"] == ("run", "new")
    assert project.run("apply").code == 0 and project.starts() == ["bad", "train"]


def test_a_machine_that_is_lost_holds_what_waits_there(
    project: Project, other: Project, opened: list[subprocess.Popen[str]]
) -> None:
    hold(other, opened)
    project.manifest(
        task("long", "sleep 2", "machine: box"),
        task("train", "true", "machine: box", "needs: { gpu: 1 }"),
        top=TOP,
    )
    running = project.start("apply")
    opened.append(running)
    project.wait(lambda: project.starts() == ["long"] and '"waiting"' in (project.root / "state/journal/0001.jsonl").read_text())
    for line in Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split():
        os.kill(int(line), signal.SIGKILL)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 6 and "Traceback" not in err, err
    assert err.count(" unknown    box does not answer") == 2, err
    assert "Not everything could be done: 1 held, 1 unreachable." in out
    assert project.starts() == ["long"]


def test_what_waits_for_a_slot_of_its_own_run_is_held_when_the_machine_is_lost(
    project: Project, opened: list[subprocess.Popen[str]]
) -> None:
    project.manifest(task("long", "sleep 2", "machine: box"), task("next", "true", "machine: box"), top=TOP.replace("cpu: 8", "cpu: 1"))
    opened.append(project.start("apply"))
    project.wait(lambda: project.starts() == ["long"])
    for pid in Path(f"/proc/{opened[0].pid}/task/{opened[0].pid}/children").read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    out, err = opened[0].communicate(timeout=60)
    assert opened[0].returncode == 6 and "Traceback" not in err, err
    assert "1 held, 1 unreachable" in out and project.starts() == ["long"]


def test_a_controller_whose_lease_another_had_meanwhile_starts_nothing_more(
    project: Project, opened: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALBOR_TEST_LEASE_S", "0.5")
    project.manifest(task("first", "until [ -e go ]; do sleep 0.05; done"), task("then", "true", "depends_on: [first]"))
    running = project.start("apply")
    opened.append(running)
    project.wait(lambda: project.starts() == ["first"])
    os.kill(running.pid, signal.SIGSTOP)
    leases = project.root / ".albor" / "leases"
    lease = Lease(Layout(str(project.root)), next(leases.iterdir()).name)
    project.wait(lambda: _takes(lease))
    os.kill(running.pid, signal.SIGCONT)
    (project.root / "go").touch()
    _, err = running.communicate(timeout=60)
    assert running.returncode == 6 and "localhost is not ours any more: a laptop since " in err, err
    assert project.starts() == ["first"]


def _takes(lease: Lease) -> bool:
    try:
        lease.take("a laptop")
    except Exception:
        return False
    return True
