"""Files, runs and reports of stages: outputs whole or not at all, progress in whole lines, one schema for results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support_data import ROOT, tree

from stages.lib.files import canonical_json, digest_path, output_folder, write_atomic
from stages.lib.plan_text import plan_text
from stages.lib.stage import Check, Plan, Report, Run


def test_an_output_folder_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    out = tmp_path / "data" / "out"
    for text in ("one", "two"):
        with output_folder(out) as folder:
            (folder / text).write_text(text)
            assert not (out / text).exists()
        assert tree(out) == {text: text.encode()}
    assert [p.name for p in out.parent.iterdir()] == ["out"]


def test_every_file_of_an_output_is_durable_before_it_appears_and_its_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A power cut may keep a name and lose what it names."""
    done: list[str] = []
    rename = Path.rename
    monkeypatch.setattr(os, "fsync", lambda fd: done.append(Path(f"/proc/self/fd/{fd}").readlink().name.partition(".partial")[0]))
    monkeypatch.setattr(Path, "rename", lambda self, to: (done.append(f"rename to {to.name}"), rename(self, to))[1])
    with output_folder(tmp_path / "out") as folder:
        (folder / "inner").mkdir()
        for name in ("a", "inner/b"):
            (folder / name).write_text("1")
    assert (sorted(done[:4]), done[4:]) == (["a", "b", "inner", "out"], ["rename to out", tmp_path.name])


def test_a_stage_that_fails_leaves_the_old_output_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with output_folder(out) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(RuntimeError), output_folder(out) as folder:
        (folder / "a").write_text("half")
        raise RuntimeError
    assert tree(tmp_path) == {"out/a": b"old"}


def test_a_stage_that_is_killed_leaves_the_old_output_and_the_next_run_cleans_up(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_atomic(out / "a", b"old")
    code = ("import os, signal, sys\nfrom pathlib import Path\nfrom stages.lib.files import output_folder\n"
            "with output_folder(Path(sys.argv[1])) as folder:\n"
            "    (folder / 'a').write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n")
    killed = subprocess.run([sys.executable, "-c", code, str(out)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (out / "a").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 2
    with output_folder(out) as folder:
        (folder / "a").write_text("new")
    assert tree(tmp_path) == {"out/a": b"new"}


def test_the_partial_folder_of_a_living_process_is_not_touched(tmp_path: Path) -> None:
    other = tmp_path / f"out.partial-{os.getppid()}"
    other.mkdir()
    with output_folder(tmp_path / "out"):
        pass
    assert other.is_dir()


def test_equal_values_give_equal_bytes_and_a_number_that_is_none_is_refused() -> None:
    assert canonical_json({"b": 1, "a": "é"}) == canonical_json({"a": "é", "b": 1}) == '{\n  "a": "é",\n  "b": 1\n}\n'.encode()
    with pytest.raises(ValueError):
        canonical_json({"a": float("nan")})


def test_the_digest_of_a_folder_counts_names_and_bytes_and_nothing_else(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a" / "x", b"1")
    write_atomic(tmp_path / "b" / "x", b"1")
    os.utime(tmp_path / "b" / "x", (1, 1))
    assert digest_path(tmp_path / "a") == digest_path(tmp_path / "b")
    write_atomic(tmp_path / "b" / "x", b"2")
    assert digest_path(tmp_path / "a") != digest_path(tmp_path / "b")


def test_progress_is_one_whole_json_line_a_call_and_beats(tmp_path: Path) -> None:
    run = Run(tmp_path / "a", tmp_path / "w", tmp_path / "beat", clock=lambda: 1.5)
    run.progress(1, 10, loss=2.5, note="warm")
    run.progress(2, 10, loss=float("nan"))
    run.close()
    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 1, "of": 10, "at": 1.5, "loss": 2.5, "note": "warm"},
                     {"step": 2, "of": 10, "at": 1.5, "loss": None}]
    assert (tmp_path / "beat").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, True, [1]])
def test_a_metric_that_is_no_number_is_refused_before_it_is_written(value: object) -> None:
    """U-13: one schema, held at each write."""
    with pytest.raises(ValueError, match="metric loss"):
        Report({"loss": value}).to_json("pretrain")  # type: ignore[dict-item]


def test_a_plan_with_errors_and_warnings_says_so_in_words() -> None:
    checks = (Check("disk", "warning", "little is left"), Check("train", "when-ready", "x is not there yet"))
    plan = Plan("pack", (("Rows", ("256 tokens", "a remainder")),), checks, (), ())
    assert plan_text(plan, "go") == (
        "Rows       256 tokens\n           a remainder\nwarning[disk]: little is left\n"
        "checked when ready[train]: x is not there yet\n"
        "Plan holds, 1 warning, 1 check when ready. To start: go\n")
    bad = Plan("pack", (), (*checks, Check("val", "error", "none")), (), ())
    assert not bad.ok
    assert plan_text(bad, "go").endswith("error[val]: none\n1 error. Nothing would be started.\n")
