"""Slots are the machine's, whatever pipeline and workdir an attempt belongs to."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from albor_pipeline.transport.client import AgentError

TOTAL = {"gpu": 2, "cpu": 4, "memory_bytes": 100}
UNTIL = "until [ -e go ]; do sleep 0.02; done"


def needs(**amounts: Any) -> dict[str, Any]:
    return {"needs": amounts, "total": TOTAL}


def seen(box: Any, resource: str) -> str:
    """The GPUs that a running task was told of."""
    path = box.root / f"{resource}.gpus"
    box.until(path.exists)
    return str(path.read_text().strip())


def holding(resource: str) -> str:
    return f'echo "${{CUDA_VISIBLE_DEVICES-all}}" > {resource}.new; mv {resource}.new {resource}.gpus; {UNTIL}'


def test_two_pipelines_never_hold_one_gpu_and_the_refusal_names_who_has_it(box: Any, other: Any) -> None:
    box.start(holding("a"), "a", **needs(gpu=1))
    other.start(holding("b"), "b", **needs(gpu=1))
    assert (seen(box, "a"), seen(other, "b")) == ("0", "1")
    with pytest.raises(AgentError) as refused:
        other.start(holding("c"), "c", **needs(gpu=1))
    assert refused.value.code == "no-slot"
    assert refused.value.message.startswith(f"0 of 2 GPU free, 1 wanted; held by a in {box.root} (run 0001, since ")
    assert not (other.root / ".albor" / "attempts" / "c").exists() or not list((other.root / ".albor" / "attempts" / "c").glob("1-*"))
    (box.root / "go").touch()
    box.ended("a")
    other.start(holding("c"), "c", **needs(gpu=1))
    assert seen(other, "c") == "0"


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"cpu": 3}, {"cpu": 2}, "1 of 4 cpu slots free, 2 wanted"),
        ({}, {"cpu": 4}, "3 of 4 cpu slots free, 4 wanted"),
        ({"memory_bytes": 60}, {"memory_bytes": 60}, "40 of 100 bytes of memory free, 60 wanted"),
        ({"gpu": 2}, {"gpu": 1}, "0 of 2 GPU free, 1 wanted"),
        ({"cpu": 9}, {}, "0 of 4 cpu slots free, 1 wanted"),
    ],
)
def test_what_does_not_fit_beside_the_others_waits(
    box: Any, other: Any, first: dict[str, int], second: dict[str, int], said: str
) -> None:
    box.start(UNTIL, "a", **needs(**first))
    with pytest.raises(AgentError, match=said):
        other.start("true", "b", **needs(**second))
    assert said in other.client.request("slots", wants=[needs(**second)])["missing"][0]
    (box.root / "go").touch()
    box.ended("a")
    assert other.client.request("slots", wants=[needs(**second)])["missing"] == [""]
    assert other.run("true", "b", **needs(**second))["exit"]["class"] == "ok"


def test_a_task_that_says_nothing_of_gpus_sees_all_and_one_that_says_none_sees_none(box: Any) -> None:
    for resource, amounts in (("all", {}), ("none", {"gpu": 0}), ("both", {"gpu": 2})):
        box.run(holding(resource).replace(UNTIL, "true"), resource, **needs(**amounts))
    assert [seen(box, name) for name in ("all", "none", "both")] == ["all", "", "0,1"]


def test_a_task_that_names_its_card_takes_that_one_and_waits_for_it(box: Any, other: Any) -> None:
    box.start(holding("a"), "a", **needs(gpu=1, gpu_device=1))
    assert seen(box, "a") == "1"
    with pytest.raises(AgentError, match=r"GPU 1 is held by a in .* \(run 0001, since ") as refused:
        other.start("true", "b", **needs(gpu=1, gpu_device=1))
    assert refused.value.code == "no-slot"
    assert other.client.request("slots", wants=[needs(gpu=1, gpu_device=1), needs(gpu=1, gpu_device=0)])["missing"][1] == ""
    other.run('echo "$CUDA_VISIBLE_DEVICES $HIP_VISIBLE_DEVICES"', "c", **needs(gpu=1, gpu_device=0))
    assert other.log("c") == "0 0\n"
    (box.root / "go").touch()
    box.ended("a")
    assert other.client.request("slots", wants=[needs(gpu=1, gpu_device=1)])["missing"] == [""]


def test_a_task_is_told_of_its_cores_when_it_asked_for_some(box: Any) -> None:
    box.run('echo "${OMP_NUM_THREADS-untold}"', "a", **needs())
    box.run('echo "${OMP_NUM_THREADS-untold}"', "b", **needs(cpu=3))
    assert (box.log("a"), box.log("b")) == ("untold\n", "3\n")


def test_slots_of_a_task_whose_supervisor_was_killed_are_held_until_the_task_is_gone(box: Any, other: Any) -> None:
    box.start(f"echo up; {UNTIL}", "a", **needs(gpu=2))
    box.until(lambda: "up" in box.log("a"))
    box.kill_supervisor("a")
    box.ended("a", name="unsupervised")
    with pytest.raises(AgentError, match="held by a in"):
        other.start("true", "b", **needs(gpu=1))
    (box.root / "go").touch()
    box.ended("a")
    assert other.run("true", "b", **needs(gpu=1))["exit"]["class"] == "ok"


def test_slots_of_a_supervisor_killed_before_its_task_began_are_free(box: Any, other: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALBOR_TEST_PAUSE", "claimed:30")
    box.start("true", "a", **needs(gpu=2))
    with pytest.raises(AgentError, match="held by a in"):
        other.start("true", "b", **needs(gpu=1))
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[5].endswith(f":{(box.folder('a') / 'alive').stat().st_ino}"):
            os.kill(int(words[4]), signal.SIGKILL)
    box.ended("a")
    monkeypatch.delenv("ALBOR_TEST_PAUSE")
    other.reconnect()
    assert other.run("true", "b", **needs(gpu=1))["exit"]["class"] == "ok"


def test_what_an_agent_holds_that_knew_no_shared_folder_counts(
    box: Any, other: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    box.start(UNTIL, "a", **needs(gpu=2))
    shared = tmp_path / "lock"
    shared.mkdir()
    monkeypatch.setenv("ALBOR_TEST_SLOTS", str(shared))
    other.reconnect()
    with pytest.raises(AgentError, match="held by a in"):
        other.start("true", "b", **needs(gpu=1))
    (box.root / "go").touch()
    box.ended("a")
    assert other.run("true", "b", **needs(gpu=1))["exit"]["class"] == "ok"
    (folder,) = (shared / "albor-slots").iterdir()
    assert [path.name for path in folder.iterdir()] == [".lock"] and folder.stat().st_mode & 0o7777 == 0o1777


def test_no_record_is_left_behind(box: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    box.reconnect()
    for number in range(5):
        box.run("true", f"t{number}", **needs(gpu=1))
    box.run("exit 3", "bad", **needs(gpu=1))
    with pytest.raises(AgentError, match="`gpu` of `needs` must be a count"):
        box.start("true", "odd", **needs(gpu=-1))
    left = [path.name for path in (tmp_path / "cache" / "albor" / "slots").rglob("*") if path.is_file()]
    assert left == [".lock"]
