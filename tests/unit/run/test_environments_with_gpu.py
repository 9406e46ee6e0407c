"""An environment in which a task runs that needs a GPU is looked at for one, and no task runs again because of that."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from albor_pipeline.manifest.load import load
from albor_pipeline.model.resource import Key
from albor_pipeline.plan.graph import build
from albor_pipeline.run.observe import Observer
from albor_pipeline.run.secrets import Vault

MANIFEST = """
version: "1.0"
name: x
machines:
  a: {addr: localhost, workdir: a, slots: {gpu: 1}}
  b: {addr: localhost, workdir: b}
resources:
  env: {type: python_env, machine: [a, b], requirements: [torch]}
  train: {type: task, machine: a, python: env, command: train, depends_on: [env], needs: {gpu: 1}}
  count: {type: task, machine: b, python: env, command: count, depends_on: [env]}
"""


def observer(tmp_path: Path, text: str) -> Any:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    manifest = load(path)
    nobody: Any = SimpleNamespace(lineage="")
    return Observer(manifest, build(manifest), nobody, Vault(manifest), tmp_path)


def test_the_gpu_is_wanted_where_the_task_runs_and_nowhere_else(tmp_path: Path) -> None:
    seen = observer(tmp_path, MANIFEST)
    assert "gpu" in seen.wanted(seen.instance(Key("env", "a")))
    assert "gpu" not in seen.wanted(seen.instance(Key("env", "b")))


def test_what_a_task_needs_is_no_part_of_its_environment(tmp_path: Path) -> None:
    one, two = observer(tmp_path, MANIFEST), observer(tmp_path, MANIFEST.replace(", needs: {gpu: 1}", ""))
    assert one._environment(Key("train", "a"), "env") == two._environment(Key("train", "a"), "env")
