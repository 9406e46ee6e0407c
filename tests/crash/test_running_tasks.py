"""What a user meets while tasks run: a killed supervisor, Ctrl-C once and twice, a conflict, attach, cancel, hangs, time-outs, retries."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

LIMIT_S = 90.0
pytestmark = pytest.mark.slow


class Project:
    """A folder with one manifest, and the real command in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.open: list[subprocess.Popen[str]] = []
        (root / "manifests").mkdir()

    def manifest(self, *resources: str, policy: str = "") -> None:
        text = 'version: "1.0"\nname: running\n' + policy + "resources:\n" + "".join(resources)
        (self.root / "manifests" / "running.yaml").write_text(text)

    def start(self, *argv: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "albor_pipeline", *argv]
        process = subprocess.Popen(
            command, cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.open.append(process)
        return process

    def run(self, *argv: str) -> tuple[int, str]:
        process = self.start(*argv)
        out, err = process.communicate(timeout=LIMIT_S)
        return process.returncode, out + err

    def json(self, *argv: str) -> dict[str, Any]:
        process = self.start(*argv, "--json")
        out, err = process.communicate(timeout=LIMIT_S)
        assert out, err
        document: dict[str, Any] = json.loads(out)
        return document

    def row(self, name: str) -> dict[str, Any]:
        rows = self.json("status")["resources"]
        return next(row for row in rows if row["resource_id"] == name)

    def pid_record(self, task: str) -> dict[str, Any] | None:
        found = sorted((self.root / ".albor" / "attempts" / task).glob("*-*/pid"))
        return json.loads(found[-1].read_text()) if found and found[-1].read_text() else None

    def wait(self, until: Callable[[], Any]) -> Any:
        limit = time.monotonic() + LIMIT_S
        while time.monotonic() < limit:
            value = until()
            if value:
                return value
            time.sleep(0.02)
        raise AssertionError("it did not happen in time")

    def starts(self) -> int:
        path = self.root / "starts.log"
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    yield project
    for process in project.open:
        if process.poll() is None:
            process.kill()
            process.communicate()


def task(name: str, command: str, *lines: str) -> str:
    body = "".join(f"    {line}\n" for line in lines)
    return f"  {name}:\n    type: task\n    command: echo {name} >> starts.log; {command}\n{body}"


def test_a_killed_supervisor_is_reported_unsupervised_then_lost_with_its_log(project: Project) -> None:
    project.manifest(task("train", "echo step one; sleep 8; echo step two"))
    running = project.start("apply")
    record = project.wait(lambda: project.pid_record("train"))
    project.wait(lambda: project.starts() == 1)
    os.kill(record["pid"], signal.SIGKILL)
    assert "unsupervised" in project.run("status")[1]
    assert project.json("ps")["attempts"][0]["liveness"] == "unsupervised"
    out, err = running.communicate(timeout=LIMIT_S)
    assert running.returncode == 3, out + err
    row = project.row("train")
    assert (row["status"], row["exit_class"]) == ("failed", "lost")
    assert project.run("logs", "train")[1] == "step one\nstep two\n"
    assert project.starts() == 1


def test_ctrl_c_once_leaves_the_task_running_and_says_how_to_attach(project: Project) -> None:
    project.manifest(task("long", "sleep 12; echo x > out.txt", "outputs: [out.txt]"), task("later", "true", "depends_on: [long]"))
    process = project.start("apply")
    project.wait(lambda: project.starts() == 1)
    os.kill(process.pid, signal.SIGINT)
    out, _err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130
    assert "albor-pipeline attach long" in out
    assert project.json("ps")["attempts"][0]["resource"] == "long"
    code, text = project.run("apply")
    assert (code, project.starts()) == (0, 2), text
    assert "attached" in text


def test_ctrl_c_twice_cancels_and_leaves_nothing_behind(project: Project) -> None:
    project.manifest(task("long", "sleep 60"))
    process = project.start("apply")
    project.wait(lambda: project.starts() == 1)
    record = project.wait(lambda: project.pid_record("long"))
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, out + err
    assert project.json("ps")["attempts"] == []
    project.wait(lambda: not Path(f"/proc/{record['pid']}").exists())


def test_other_settings_never_start_beside_a_running_task_unless_replaced(project: Project) -> None:
    project.manifest(
        task("train", "sleep 60; echo 1 > out.txt", "env: { LR: '1e-3' }", "outputs: [out.txt]"), task("after", "true", "inputs: [train]")
    )
    first = project.start("apply")
    project.wait(lambda: project.starts() == 1)
    first.kill()
    first.communicate()
    project.manifest(
        task("train", "sleep 60; echo 1 > out.txt", "env: { LR: '3e-4' }", "outputs: [out.txt]"), task("after", "true", "inputs: [train]")
    )
    code, text = project.run("apply")
    assert "env LR 1e-3 is running, 3e-4 is wanted: `cancel train` or `apply --replace train`" in text
    assert "after" in text and "waits for train" in text
    assert (code, project.starts()) == (1, 1)
    second = project.start("apply", "--replace", "train")
    project.wait(lambda: project.starts() == 2)
    alive = project.json("ps")["attempts"]
    assert len(alive) == 1
    assert project.run("cancel", "train")[0] == 0
    second.communicate(timeout=LIMIT_S)
    assert second.returncode == 3


def test_a_replaced_task_has_its_grace_before_the_other_one_starts(project: Project) -> None:
    saves = "trap 'sleep 3; touch saved; exit 143' TERM; while ! test -e saved; do sleep 0.1; done"
    project.manifest(task("train", saves, "env: { LR: '1e-3' }"))
    first = project.start("apply")
    project.wait(lambda: project.starts() == 1)
    first.kill()
    first.communicate()
    project.manifest(task("train", saves, "env: { LR: '3e-4' }"))
    assert project.run("apply", "--replace", "train")[0] == 0
    assert (project.starts(), (project.root / "saved").exists()) == (2, True)


def test_logs_follow_and_attach_see_the_end(project: Project) -> None:
    project.manifest(task("count", "for i in 1 2 3 4; do echo line $i; sleep 0.3; done"))
    process = project.start("apply")
    project.wait(lambda: project.starts() == 1)
    assert project.run("logs", "-f", "count") == (0, "line 1\nline 2\nline 3\nline 4\n")
    process.communicate(timeout=LIMIT_S)
    code, text = project.run("attach", "count")
    assert code == 0 and "ended well" in text


def test_a_timeout_ends_the_whole_process_group(project: Project) -> None:
    project.manifest(task("slow", "(sleep 77 & sleep 77)", "timeout: 1s"))
    code, text = project.run("apply")
    assert code == 3
    assert project.row("slow")["exit_class"] == "timeout"
    assert subprocess.run(["pgrep", "-f", "^sleep 77$"], capture_output=True, check=False).returncode == 1, text


def test_a_task_without_a_sign_of_life_hangs_only_where_a_heartbeat_is_declared(project: Project) -> None:
    project.manifest(task("quiet", "sleep 2"), task("hung", "sleep 60", "heartbeat: 1s"))
    code, _ = project.run("apply", "--keep-going")
    assert code == 3
    assert project.row("quiet")["status"] == "converged"
    assert project.row("hung")["exit_class"] == "hang"


def test_retries_are_made_on_the_machine_for_the_declared_exit_classes_only(project: Project) -> None:
    flaky = "n=$(cat n 2>/dev/null || echo 0); echo $((n+1)) > n; test $n -ge 2"
    project.manifest(task("flaky", flaky, "retry: { attempts: 4, backoff: 100ms, on: [error] }"))
    assert project.run("apply")[0] == 0
    assert project.starts() == 3
    project.manifest(task("other", "exit 1", "retry: { attempts: 4, backoff: 100ms, on: [oom] }"))
    assert project.run("apply")[0] == 3
    assert project.starts() == 4


def test_a_declared_output_that_is_not_there_fails_the_task_by_name(project: Project) -> None:
    """ALB-027/028: a task that exits 0 without its artifact has failed."""
    project.manifest(task("liar", "true", "outputs: [models/best.bin]"))
    code, text = project.run("apply")
    assert code == 3
    assert "models/best.bin" in text


def test_stop_on_first_starts_nothing_more_and_keep_going_does(project: Project) -> None:
    tasks = (
        task("a-bad", "exit 7"),
        task("b-good", "true", "depends_on: [c-slow]"),
        task("c-slow", "sleep 0.5"),
        task("d-needs", "true", "depends_on: [a-bad]"),
    )
    project.manifest(*tasks)
    code, text = project.run("apply")
    assert code == 3
    assert "exit 7" in text and "Stopped at the first failure: 1 done, 1 failed, 2 not started." in text
    code, text = project.run("apply", "--keep-going")
    assert code == 3
    assert project.row("b-good")["status"] == "converged"
    assert project.row("d-needs")["status"] == "pending"


def test_equal_bytes_again_cut_off_what_follows(project: Project) -> None:
    def ladder(comment: str) -> None:
        project.manifest(
            task("a", f"echo same > a.txt; true {comment}", "outputs: [a.txt]"),
            task("b", "cat a.txt > b.txt", "inputs: [a]", "outputs: [b.txt]"),
        )

    ladder("one")
    assert project.run("apply")[0] == 0
    ladder("two")
    assert "if a changes" in project.run("plan")[1]
    code, text = project.run("apply")
    assert code == 0 and "1 done, 1 unchanged" in text
    assert project.starts() == 3


def test_two_controllers_never_share_a_state_folder(project: Project) -> None:
    project.manifest(task("long", "sleep 8"))
    first = project.start("apply")
    project.wait(lambda: project.starts() == 1)
    code, text = project.run("apply")
    assert code == 5
    assert f"pid {first.pid}" in text
    first.communicate(timeout=LIMIT_S)
    assert first.returncode == 0


def test_max_parallel_and_cpu_slots_bound_what_runs_at_once(project: Project) -> None:
    command = "mkdir -p live; touch live/$$; ls live | wc -l >> most.log; sleep 0.3; rm live/$$"
    project.manifest(*(task(f"t{i}", command) for i in range(6)))
    assert project.run("apply", "--max-parallel", "1")[0] == 0
    assert set((project.root / "most.log").read_text().split()) == {"1"}
