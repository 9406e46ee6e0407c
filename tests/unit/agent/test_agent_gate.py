"""What passes a quality gate, what does not, and what is said then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from albor_pipeline.agent import gate

JSON = '{"accuracy": 0.9, "grade": "B", "ok": true, "metrics": {"f1": 0.5}, "a.b": 1, "none": null}'


@pytest.mark.parametrize(
    ("asked", "printed", "code"),
    [
        ({"field": "accuracy", "min": 0.9}, JSON, 0),
        ({"parse": "json", "field": "grade", "threshold": ["A", "B"]}, JSON, 0),
        ({"field": "accuracy", "threshold": ["0.90"]}, JSON, 0),
        ({"field": "ok", "threshold": ["true"]}, JSON, 0),
        ({"field": "metrics.f1", "min": 0.5}, JSON, 0),
        ({"field": "a.b", "min": 1}, JSON, 0),
        ({"field": "grade", "regex": "^[AB]$"}, JSON, 0),
        ({"field": "none"}, JSON, 0),
        ({"field": "accuracy", "min": 0.9}, f"start {{\n{JSON}\nafterwards\n", 0),
        ({"field": "n", "min": 2}, '{"n": 1}\n{"n": 2}\n', 0),
        ({"field": "n", "min": 2}, '{\n  "inner": {"n": 1},\n  "more": [\n  {"n": 0}\n  ],\n  "n": 2\n}\n', 0),
        ({"field": "n", "min": 2}, '{"n": 2}\nalbor: {"n": 1}\n', 0),
        ({"min": 95}, "coverage of all:\n 95.5 \n\n", 0),
        ({"parse": "stdout", "threshold": ["ok"]}, "failed\nok\n", 0),
        ({"min": 95}, "96\nalbor: stage 1 of 1, test: done after 0.1 s\n", 0),
        ({"parse": "stdout", "regex": "PASS|OK$"}, "tests: OK\nbye\n", 0),
        ({"parse": "exit_code", "threshold": ["0", "3"]}, "", 3),
        ({"command": ["x"]}, "", 0),
    ],
)
def test_what_is_as_asked_for_passes(asked: dict[str, Any], printed: str, code: int) -> None:
    assert gate.why_not(asked, printed.encode(), code) == ""


@pytest.mark.parametrize(
    ("asked", "printed", "code", "why"),
    [
        ({"field": "accuracy", "min": 0.95}, JSON, 0, "`accuracy` is 0.9, and the least that passes is 0.95"),
        ({"field": "grade", "min": 1}, JSON, 0, "`grade` is B, and the least that passes is 1"),
        ({"field": "ok", "min": 1}, JSON, 0, "`ok` is true, and the least that passes is 1"),
        ({"field": "n", "min": 1}, '{"n": NaN}', 0, "`n` is NaN, and the least that passes is 1"),
        ({"field": "grade", "threshold": ["A", "S"]}, JSON, 0, "`grade` is B, and only A or S passes"),
        (
            {"field": "accuracy", "threshold": ["0.85"]}, JSON, 0,
            "`accuracy` is 0.9, and only 0.85 passes; for a least value write `min: 0.85`",
        ),
        ({"field": "f1", "min": 0}, JSON, 0, "the JSON object has no field `f1`"),
        ({"field": "grade.x"}, JSON, 0, "the JSON object has no field `grade.x`"),
        ({"field": "x"}, "no numbers here", 0, "no JSON object was printed, and `x` of one is wanted"),
        ({"field": "x"}, '[{"x": 1}]', 0, "no JSON object was printed, and `x` of one is wanted"),
        ({"field": "grade", "regex": "^A"}, JSON, 0, "`grade` is B, which does not match ^A"),
        ({"min": 95}, "94.9\n", 0, "the last line is 94.9, and the least that passes is 95"),
        ({"min": 95}, "", 0, "the last line is empty, and the least that passes is 95"),
        ({"parse": "stdout", "regex": "^PASS"}, "no PASS\n", 0, "what was printed does not match ^PASS"),
        ({"parse": "exit_code", "threshold": ["0"]}, "", 2, "the exit code is 2, and only 0 passes"),
        ({"field": "accuracy", "min": 0.9}, JSON, 2, "its command ended with exit 2"),
        ({"command": ["x"]}, "", 1, "its command ended with exit 1"),
    ],
)
def test_what_does_not_pass_is_told_with_its_limit(asked: dict[str, Any], printed: str, code: int, why: str) -> None:
    assert gate.why_not(asked, printed.encode(), code).startswith(why)


def test_an_expression_that_would_take_for_ever_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "SEARCH_S", 0.1)
    assert gate.why_not({"regex": "^(a+)+$"}, b"a" * 60 + b"!", 0) == "its expression ^(a+)+$ takes more than 0.1 s"
    assert gate.why_not({"regex": "^a"}, b"a", 0) == ""


def stages(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"name": name, "argv": ["/bin/bash", "-euo", "pipefail", "-c", command]} for name, command in pairs]


def test_stages_run_one_after_the_other_and_the_log_says_which(box: Any) -> None:
    end = box.run("", argv=None, stages=stages(("make", "echo 1 > o; sleep 60 & echo $! > pid"), ("look", "cat o; kill -0 $(cat pid)")))
    assert end["exit"]["class"] == "ok", end
    lines = [line.partition(" after ")[0] for line in box.log().splitlines()]
    assert lines == ["albor: stage 1 of 2, make", "albor: stage 1 of 2, make: done", "albor: stage 2 of 2, look", "1",
                     "albor: stage 2 of 2, look: done"]  # fmt: skip
    assert not Path(f"/proc/{(box.root / 'pid').read_text().strip()}").exists()


@pytest.mark.parametrize(
    ("command", "detail"),
    [
        ("exit 7; true", "exit 7"),
        ("false; true", "exit 1"),
        ("false | true", "exit 1"),
        ("echo $nothing", "exit 1"),
        ("kill -9 $$", "killed by SIGKILL"),
    ],
)
def test_a_stage_that_fails_ends_the_task_and_is_named(box: Any, command: str, detail: str) -> None:
    end = box.run("", argv=None, stages=stages(("one", "echo 1"), ("it's $two", command), ("three", "touch three")))
    assert end["exit"]["detail"] == f"stage `it's $two`: {detail}" and not (box.root / "three").exists(), end
    assert f"albor: stage 2 of 3, it's $two: {detail} after 0." in box.log()


def test_the_time_of_a_task_is_that_of_all_its_stages(box: Any) -> None:
    end = box.run("", argv=None, timeout_s=1, stages=stages(("one", "sleep 0.7"), ("two", "sleep 0.7")))
    assert (end["exit"]["class"], end["exit"]["detail"]) == ("timeout", "stage `two`: still running after 1 s")


@pytest.mark.parametrize(
    ("on_fail", "said"),
    [
        ("block", ("error", {})),
        ("warn", ("ok", {"gate": "too low: `n` is 1, and the least that passes is 2"})),
        ("skip_dependents", ("ok", {"gate": "too low: `n` is 1, and the least that passes is 2"})),
    ],
)
def test_what_follows_when_a_gate_is_not_passed(box: Any, on_fail: str, said: tuple[str, dict[str, str]]) -> None:
    asked = {"field": "n", "min": 2, "on_fail": on_fail, "message": "too low"}
    end = box.run("echo 1 > o; echo '{\"n\": 1}'", outputs=[{"path": "o"}], quality_gate=asked)["exit"]
    assert end["detail"] == "quality_gate did not pass: too low: `n` is 1, and the least that passes is 2"
    assert (end["class"], end["summary"], end["code"]) == (*said, 0) and bool(end["outputs"]) is (on_fail != "block")
    assert "albor: quality_gate did not pass: too low" in box.log()


def test_a_gate_with_a_command_judges_what_that_prints_and_not_the_task(box: Any) -> None:
    command = ["/bin/bash", "-c", "echo noise >&2; cat o"]
    asked = {"command": command, "parse": "stdout", "min": 2, "on_fail": "block"}
    end = box.run("echo 3 > o; echo 1", quality_gate=asked)["exit"]
    assert end["class"] == "ok" and end["detail"] == "" and sorted(box.log().split()) == ["1", "3", "noise"]
    end = box.run("echo 1 > o; echo 3", "u", quality_gate=asked)["exit"]
    assert end["detail"] == "quality_gate did not pass: the last line is 1, and the least that passes is 2"
    end = box.run("echo 3 > o", "v", quality_gate={**asked, "command": ["/nowhere/judge"]})["exit"]
    assert end["detail"] == "quality_gate did not pass: it cannot be judged: /nowhere/judge: No such file or directory"
    assert "gate.out" not in {path.name for path in box.folder().iterdir()}


def test_a_gate_judges_the_last_try_and_none_that_failed(box: Any) -> None:
    asked = {"field": "n", "min": 2, "on_fail": "block"}
    script = "echo x >> tries; [ $(wc -l < tries) = 2 ] && exit 0; echo '{\"n\": 5}'; exit 1"
    end = box.run(script, retry={"attempts": 2, "backoff_s": 0.01, "on": ["error"]}, quality_gate=asked)
    assert end["exit"]["detail"] == "quality_gate did not pass: no JSON object was printed, and `n` of one is wanted" and end["tries"] == 2
    end = box.run("echo '{\"n\": 5}'; exit 3", "u", quality_gate=asked)
    assert end["exit"]["detail"] == "exit 3"
