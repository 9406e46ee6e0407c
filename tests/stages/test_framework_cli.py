"""The command `albor-stage`: exit codes, streams, the run folder, the one schema of result.json, no connection."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support_data import HEAVY, ROOT, albor_stage, sources, write_config

from stages.lib.cli import STAGES

RESULT_KEYS = {"version", "stage", "metrics", "headline", "digests", "versions", "seed"}


@pytest.mark.parametrize(("argv", "hint"), [
    (["ingst", "plan", "c"], "did you mean `ingest`?"), (["ingest", "aply", "c"], "did you mean `apply`?"),
    (["frobnicate"], "there are: ingest"), (["ingest", "plan", "c", "--jsn"], "--jsn"), (["ingest", "plan"], "CONFIG"),
    (["plan"], "--batch"), ([], "usage:"), (["ingest", "plan", "c", "--out", "x"], "--out goes with apply"),
])
def test_wrong_usage_exits_64_and_says_the_way_out(tmp_path: Path, argv: list[str], hint: str) -> None:
    """U-11: no catch-all, no exit 0 on an error."""
    done = albor_stage(*argv, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (64, "")
    assert hint in done.stderr


def test_help_lists_every_stage_and_loads_no_library(tmp_path: Path) -> None:
    done = albor_stage("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert all(name in done.stdout for name in STAGES)
    code = "import sys, stages.lib.cli as c; c.main(['--help']); sys.exit(any(m in sys.modules for m in ('yaml', 'pydantic')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True).returncode == 0


def test_a_bad_configuration_exits_1_on_stderr_and_writes_nothing(tmp_path: Path) -> None:
    config = write_config(tmp_path, "c.json", out="data/raw", min_char=3)
    for verb in ("plan", "apply", "validate"):
        done = albor_stage("ingest", verb, config, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert "did you mean `min_chars`?" in done.stderr
        assert f"--> {config}:1:" in done.stderr
    answer = json.loads(albor_stage("ingest", "validate", config, "--json", cwd=tmp_path).stdout)
    assert answer["ok"] is False
    assert answer["errors"][0]["code"] == "unknown-key"
    assert [p.name for p in tmp_path.iterdir()] == [config]


def test_validate_looks_at_the_schema_only(tmp_path: Path) -> None:
    config = write_config(tmp_path, "c.json", source="nowhere", out="data/raw")
    done = albor_stage("ingest", "validate", config, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "c.json is valid.\n")


def test_plan_says_what_would_be_done_and_what_to_type(tmp_path: Path) -> None:
    sources(tmp_path / "src", 3)
    config = write_config(tmp_path, "c.json", source="src", out="data/raw")
    done = albor_stage("ingest", "plan", config, "--set", "min_chars=10", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].startswith("Source     src: 3 *.py files, ")
    assert done.stdout.splitlines()[-1] == (
        "Plan holds. To start: albor-stage ingest apply c.json --set min_chars=10")
    answer = json.loads(albor_stage("ingest", "plan", config, "--json", cwd=tmp_path).stdout)
    assert (answer["version"], answer["ok"], answer["reads"], answer["writes"]) == (1, True, ["src"], ["data/raw"])
    assert answer["estimates"]["files"] == 3


def test_apply_makes_the_checks_of_plan_first_and_writes_nothing_when_one_fails(tmp_path: Path) -> None:
    config = write_config(tmp_path, "c.json", input="data/raw", out="data/split")
    assert albor_stage("split", "plan", config, cwd=tmp_path).returncode == 0
    done = albor_stage("split", "apply", config, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("error[input]: data/raw is not there yet\n"
                           "split was not started, nothing was written.\n")
    assert [p.name for p in tmp_path.iterdir()] == ["c.json"]


def test_apply_by_hand_makes_a_run_folder_and_says_where(tmp_path: Path) -> None:
    sources(tmp_path / "src", 3)
    config = write_config(tmp_path, "c.json", source="src", out="data/raw")
    done = albor_stage("ingest", "apply", config, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / done.stderr.removeprefix("run folder: ").strip()
    result = json.loads((folder / "result.json").read_bytes())
    assert set(result) == RESULT_KEYS
    assert done.stdout.splitlines() == result["headline"]
    assert json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 3


def test_the_engine_names_the_folders_by_the_environment(tmp_path: Path) -> None:
    sources(tmp_path / "src", 3)
    config = write_config(tmp_path, "c.json", source="src", out="data/raw")
    named = {"ALBOR_ATTEMPT": str(tmp_path / "a"), "ALBOR_WORK": str(tmp_path / "w"),
             "ALBOR_HEARTBEAT": str(tmp_path / "beat")}
    done = albor_stage("ingest", "apply", config, "--json", cwd=tmp_path, environ=named)
    assert json.loads(done.stdout) == json.loads((tmp_path / "a" / "result.json").read_bytes())
    assert (tmp_path / "w").is_dir()
    assert (tmp_path / "beat").exists()
    assert not (tmp_path / ".albor").exists()


def test_a_fault_of_the_input_and_of_the_disk_is_a_line_and_not_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.parquet").write_text("not parquet")
    bad = albor_stage("split", "apply", write_config(tmp_path, "c.json", input="raw", out="o"), cwd=tmp_path)
    assert (bad.returncode, bad.stderr.splitlines()[-1].split(":")[0]) == (1, "error[split]")
    assert "raw/a.parquet is not a Parquet file" in bad.stderr
    sources(tmp_path / "src", 3)
    stuck = albor_stage("ingest", "apply", write_config(tmp_path, "d.json", source="src", out="o"), "--out", "c.json/run", cwd=tmp_path)
    assert stuck.returncode == 1
    assert "error[io]: ingest: " in stuck.stderr
    assert not list(tmp_path.glob("*partial*"))
    assert "Traceback" not in bad.stderr + stuck.stderr


def test_a_fault_of_our_own_exits_70_with_its_traceback(tmp_path: Path) -> None:
    code = ("import sys, stages.lib.cli as c, stages.ingest as s\nsys.argv = ['albor-stage', *sys.argv[1:]]\n"
            "s.plan = lambda config: 1 / 0\nc.entry()")
    config = write_config(tmp_path, "c.json", out="o")
    done = subprocess.run([sys.executable, "-c", code, "ingest", "plan", config], cwd=tmp_path, capture_output=True,
                          text=True, env={"PYTHONPATH": str(ROOT)}, check=False)
    assert (done.returncode, done.stdout) == (70, "")
    assert "ZeroDivisionError" in done.stderr


def test_a_library_that_wants_to_connect_is_stopped_and_named(tmp_path: Path) -> None:
    code = (
        "import socket, sys\nfrom stages.lib.cli import _refuse_connections\nfrom stages.lib.stage import StageError\n"
        "_refuse_connections()\n"
        "for ask in (lambda: socket.create_connection(('192.0.2.1', 80), 1),"
        " lambda: socket.getaddrinfo('example.org', 80),"
        " lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9))):\n"
        "    try: ask()\n    except StageError as stop: print(stop)\n"
        "server = socket.create_server(('127.0.0.1', 0)); socket.create_connection(server.getsockname())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.count("a stage opens no connection") == 3


def test_batch_answers_every_question_in_one_process_without_a_heavy_library(tmp_path: Path) -> None:
    sources(tmp_path / "src", 3)
    write_config(tmp_path, "s.yaml", input="data/raw", out="data/split")
    questions = [
        {"id": 1, "stage": "ingest", "config": {"source": "src", "out": "data/raw"}, "config_file": None, "set": []},
        {"id": 2, "stage": "split", "config": None, "config_file": "s.yaml", "set": ["val_permille=0"]},
        {"id": 3, "stage": "splt", "config": {}},
        {"id": 4, "stage": "pack", "config": None},
        {"id": 5, "stage": "tokenize", "config": {"input": "i", "out": "o", "vocab_size": "1M"}},
    ]
    lines = "".join(json.dumps(q) + "\n" for q in questions) + "nonsense\n\n[1]\n"
    code = ("import sys, stages.lib.cli as c; c.main(['plan', '--batch']); "
            f"sys.exit(any(m in sys.modules for m in {HEAVY!r}))")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, input=lines, capture_output=True, text=True,
                          env={"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(a["id"], a["ok"]) for a in answers] == [
        (1, True), (2, False), (3, False), (4, False), (5, False), (None, False), (None, False)]
    assert answers[0]["plan"]["writes"] == ["data/raw"]
    assert (answers[1]["errors"][0]["file"], answers[1]["errors"][0]["column"]) == ("--set", 14)
    assert answers[2]["errors"][0]["hint"] == "did you mean `split`?"
    assert "1e6 or 1024K" in answers[4]["errors"][0]["text"]
