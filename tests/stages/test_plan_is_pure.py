"""Plan writes nothing, opens no connection and loads no heavy library; apply needs no network; every key counts."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support_data import HEAVY, ROOT, albor_stage, apply_of, config_of, plan_of, sources, text_table, tree, write_config

from stages.lib.files import digest_path
from stages.lib.stage import StageError

LADDER: dict[str, dict[str, Any]] = {
    "ingest": {"source": "src", "out": "data/raw"},
    "split": {"input": "data/raw", "out": "data/split", "val_permille": 250},
    "tokenize": {"input": "data/split/train", "out": "data/tok", "vocab_size": 290},
    "pack": {"train": "data/split/train", "val": "data/split/val", "tokenizer": "data/tok", "out": "data/packed",
             "seq_len": 16},
}
READ_ONLY = ("set -e; awk '{print $2}' /proc/self/mounts | while read -r m; do case $m in /proc*|/sys*|/dev*) ;; "
             "*) mount -o remount,bind,ro \"$m\" 2>/dev/null || true;; esac; done; "
             "if touch \"$PWD/probe\" 2>/dev/null; then echo still writable >&2; exit 99; fi; exec \"$@\"")


def _isolated(script: str) -> list[str]:
    return ["unshare", "--net", "--mount", "sh", "-c", script, "sh"]


def _reason_not_isolated() -> str:
    if os.geteuid() != 0 or not shutil.which("unshare"):
        return "needs root and unshare"
    done = subprocess.run(_isolated("true"), capture_output=True, check=False)
    return "" if done.returncode == 0 else "this machine gives no namespaces"


NOT_ISOLATED = _reason_not_isolated()
isolated = pytest.mark.skipif(bool(NOT_ISOLATED), reason=NOT_ISOLATED or "-")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    sources(tmp_path / "src")
    for stage, values in LADDER.items():
        write_config(tmp_path, f"{stage}.json", **values)
    return tmp_path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose four stages have run."""
    folder = tmp_path_factory.mktemp("built")
    sources(folder / "src")
    _climb(folder)
    return folder


def _climb(folder: Path) -> None:
    """Run the four stages with `folder` as the working folder."""
    with contextlib.chdir(folder):
        for stage, values in LADDER.items():
            apply_of(stage, folder / "attempts" / stage, **values)


@pytest.mark.parametrize("stage", LADDER)
def test_plan_changes_no_file_and_loads_no_heavy_library(built: Path, stage: str) -> None:
    before = tree(built)
    code = (f"import sys, json, stages.{stage} as s, stages.lib.load as l\n"
            f"p = s.plan(l.load_mapping(s.Config, {stage!r}, json.loads(sys.argv[1])))\n"
            f"print(p.ok, sorted(set({HEAVY!r}) & set(sys.modules)), [c.level for c in p.checks])")
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code, json.dumps(LADDER[stage])], cwd=built, capture_output=True,
                          text=True, env={"PYTHONPATH": str(ROOT)}, check=True)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.startswith("True [] ['ok', 'ok', 'ok'")
    assert tree(built) == before
    assert end.ru_utime - start.ru_utime < 0.6


@isolated
@pytest.mark.root
def test_plan_works_without_a_network_on_a_read_only_root(project: Path) -> None:
    for stage in LADDER:
        done = albor_stage(stage, "plan", f"{stage}.json", cwd=project, before=_isolated(READ_ONLY))
        assert done.returncode == 0, done.stderr
        assert "To start: albor-stage" in done.stdout
    questions = "".join(json.dumps({"id": s, "stage": s, "config": v}) + "\n" for s, v in LADDER.items())
    done = albor_stage("plan", "--batch", cwd=project, before=_isolated(READ_ONLY), stdin=questions)
    assert [json.loads(line)["ok"] for line in done.stdout.splitlines()] == [True] * 4
    done = albor_stage("ingest", "apply", "ingest.json", cwd=project, before=_isolated(READ_ONLY))
    assert (done.returncode, done.stdout) == (1, "") and "cannot be written: nothing can be made in " in done.stderr
    assert not (project / ".albor").exists()


@isolated
@pytest.mark.root
@pytest.mark.slow
def test_the_data_stages_run_without_a_network(project: Path) -> None:
    for stage in LADDER:
        done = albor_stage(stage, "apply", f"{stage}.json", "--out", f"run/{stage}", cwd=project,
                           before=_isolated('exec "$@"'))
        assert done.returncode == 0, done.stderr
    results = [json.loads(path.read_bytes()) for path in sorted((project / "run").glob("*/result.json"))]
    assert len({tuple(result) for result in results}) == 1, "U-13: one schema for every result"
    assert {result["version"] for result in results} == {1}


def test_the_same_project_in_another_folder_gives_the_same_bytes(built: Path, tmp_path: Path) -> None:
    """Outputs hold no time, duration or path."""
    sources(tmp_path / "src")
    os.utime(tmp_path / "src" / "pkg0" / "mod0.py", (1, 1))
    _climb(tmp_path)
    assert tree(tmp_path / "data") == tree(built / "data")
    assert tree(built / "data").keys() >= {"raw/part-00000.parquet", "tok/tokenizer.json", "packed/manifest.json"}


def test_plan_names_what_apply_writes(built: Path) -> None:
    for stage, values in LADDER.items():
        assert plan_of(stage, **values).writes == (values["out"],)
        assert (built / values["out"]).is_dir()


MORE: dict[str, dict[str, Any]] = {
    "pack": {"train": "text", "val": "text2", "remainder": "pad"},
    "tokenize": {"min_frequency": 1},
}
OTHER: dict[str, dict[str, Any]] = {
    "ingest": {"source": "src2", "name": "x", "out": "u11/other", "min_chars": 300, "max_chars": 250,
               "skip": ["pkg1"], "rows_per_shard": 7},
    "split": {"input": "text", "out": "u11/other", "val_permille": 500, "rows_per_shard": 7},
    "tokenize": {"input": "text", "out": "u11/other", "vocab_size": 280, "min_frequency": 100_000,
                 "special_tokens": ["<|endoftext|>", "<|pad|>"], "eos_token": "<|fim_prefix|>",
                 "pad_token": "<|fim_suffix|>"},
    "pack": {"train": "text3", "val": "text3", "tokenizer": "tok2", "out": "u11/other", "seq_len": 24,
             "rows_per_shard": 3, "remainder": "drop", "eos_token": "<|fim_prefix|>", "pad_token": "<|fim_middle|>",
             "fim": {"rate": 0.7}},
}


@pytest.fixture(scope="module")
def with_others(built: Path) -> Path:
    """The built project with second sources, texts and a second tokenizer beside the first."""
    sources(built / "src2", 20)
    for number, name in enumerate(("text", "text2", "text3")):
        text_table(built / name, [f"value_{n} = {n + number / 10}\n" * 9 for n in range(60)])
    apply_of("tokenize", built / "attempts" / "t", input=str(built / "text"), out=str(built / "tok2"), vocab_size=280)
    return built


@pytest.mark.parametrize(("stage", "key"), [(stage, key) for stage, keys in OTHER.items() for key in keys])
def test_every_key_changes_what_is_written(
    with_others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, key: str,
) -> None:
    """U-11: no key is read and dropped."""
    monkeypatch.chdir(with_others)
    values = {**LADDER[stage], **MORE.get(stage, {}), "out": "u11/plain"}
    assert _outcome(tmp_path, stage, values) != _outcome(tmp_path, stage, {**values, key: OTHER[stage][key]})


def _outcome(attempt: Path, stage: str, values: dict[str, Any]) -> tuple[str, str]:
    try:
        apply_of(stage, attempt, **values)
    except StageError as stop:
        return "refused", str(stop)
    return values["out"] if values["out"] == "u11/other" else "", digest_path(Path(values["out"]))


def test_the_table_of_keys_is_complete() -> None:
    for stage, keys in OTHER.items():
        assert set(keys) == set(type(config_of(stage, LADDER[stage])).model_fields)


def test_no_data_stage_imports_another_stage() -> None:
    for stage in LADDER:
        imported = {node.module for node in ast.walk(ast.parse((ROOT / "stages" / f"{stage}.py").read_text()))
                    if isinstance(node, ast.ImportFrom)}
        assert not [name for name in imported if name and name.startswith("stages.") and "stages.lib." not in name]
