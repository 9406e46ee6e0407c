"""Hostile text in every field of a container, through a real shell: the engine is told exactly that text, or it is refused before."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from resources.test_cases import resource_of

from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.errors import ManifestError
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources.docker import Docker, DockerKind
from albor_pipeline.resources.gpu import Gpu, GpuKind

TEXTS = (
    "'", '"', "a'b\"c", "$(touch pwned)", "`touch pwned`", "; touch pwned", "| touch pwned", "&& touch pwned", "--privileged", "-v", "a b",
    "a\tb", "a\nb", "a\rb", "${HOME}", "*", "?", "~", "\\", "\\n", "%s", "{{.Id}}", "ünï", "日本", "\u2028", "#", "!x", "=", "a=b",
    "x" * 1_000_000, "a\0b",
)  # fmt: skip
ENGINE = """#!/bin/sh
case $1 in
  container) [ -e "$0.made" ] || exit 1; echo running ;;
  create)
    for word do printf '%s\\0' "$word"; done > "$0.words"
    while [ $# -gt 0 ]; do [ "$1" = --env-file ] && cat "$2" > "$0.file"; shift; done ;;
  start) touch "$0.made" ;;
esac
exit 0
"""
FIELDS: tuple[tuple[str, Any], ...] = (
    ("name", str), ("image", str), ("ports", lambda text: [text]), ("environment", lambda text: [f"A={text}"]),
    ("volumes", lambda text: [f"{text}:/data"]), ("restart", str), ("command", lambda text: f"run {shlex.quote(text)}"),
)  # fmt: skip


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Path]:
    """A program named docker that writes down what it is told."""
    program = tmp_path / "bin/docker"
    program.parent.mkdir()
    program.write_text(ENGINE)
    (program.parent / "sleep").symlink_to("/bin/true")
    program.chmod(0o755)
    yield program


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text)[:16])
@pytest.mark.parametrize(("field", "put"), FIELDS, ids=[name for name, _put in FIELDS])
def test_the_engine_is_told_the_text_or_it_is_refused(field: str, put: Any, text: str, engine: Path, tmp_path: Path) -> None:
    try:
        one = resource_of({"fields": {"name": "box", "image": "i", field: put(text)}}, "docker", tmp_path)
        DockerKind().wanted(one)
    except ManifestError as error:
        assert error.diagnostics
        return
    for operation in DockerKind().converge(one, Observation(False)):
        if operation["verb"] == "put":
            path = tmp_path / operation["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(operation["data"])
            continue
        script = tmp_path / "script"
        script.write_text(operation["script"])
        env = {**os.environ, "PATH": f"{engine.parent}:{os.environ['PATH']}"}
        done = subprocess.run(["/bin/sh", str(script)], capture_output=True, cwd=tmp_path, env=env, check=False)
        if done.returncode:
            assert b"too long" in done.stderr and len(text) > 100_000
            return
    assert not (tmp_path / "pwned").exists()
    words = Path(f"{engine}.words").read_bytes().decode().split("\0")[:-1]
    if field == "environment":
        assert Path(f"{engine}.file").read_bytes().decode() == f"A={text}\n"
        assert "--env-file" in words and not any(text in word for word in words if len(text) > 6)
    else:
        wanted = {"volumes": f"{text}:/data"}.get(field, text)
        assert wanted in words
        assert field != "image" or words[words.index("--") + 1] == text
    assert not list((tmp_path / ".albor").glob("docker/*")) if (tmp_path / ".albor").exists() else True


@pytest.mark.parametrize(
    ("item", "why"),
    [("A=x\r", "a line break"), ("A=x\ny", "a line break"), ("A", "has no value"), (f"A={'x' * 60_001}", "longer than 60,000 bytes")],
    ids=["return", "newline", "bare", "long"],
)
def test_a_variable_that_no_file_of_variables_can_hold_is_refused_with_a_way_out(item: str, why: str, tmp_path: Path) -> None:
    one = resource_of({"fields": {"name": "box", "image": "i", "environment": [item]}}, "docker", tmp_path)
    with pytest.raises(ManifestError, match=why):
        DockerKind().wanted(one)


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text)[:16])
@pytest.mark.parametrize("field", ["driver_version", "cuda_version"])
def test_a_version_of_a_driver_arrives_or_is_refused(field: str, text: str, tmp_path: Path) -> None:
    try:
        one = resource_of({"fields": {"driver_version": "1", field: text}}, "gpu", tmp_path)
    except ManifestError as error:
        assert error.diagnostics
        return
    told = tmp_path / "told"
    tool = tmp_path / "apt-cache"
    tool.write_text(f"#!/bin/sh\necho \"$2\" >> {told}\n")
    tool.chmod(0o755)
    script = "".join(item["script"] for item in GpuKind().forecasts(one, Observation(False)))
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["/bin/sh", "-c", script], capture_output=True, cwd=tmp_path, env=env, check=False)
    assert not (tmp_path / "pwned").exists()


def test_every_text_field_is_among_them() -> None:
    tried = {name for name, _put in FIELDS}
    assert set(Docker.model_fields) - tried == {"state", "description"}
    assert {"driver_version", "cuda_version", "rocm_version"} <= set(Gpu.model_fields)


def test_a_variable_is_shown_by_a_digest_that_tells_nothing_without_the_key(tmp_path: Path) -> None:
    one = resource_of({"fields": {"name": "box", "image": "i", "environment": ["PIN=1234"]}}, "docker", tmp_path)
    shown = {DockerKind().wanted(replace(one, lineage=lineage))["environment"] for lineage in ("a", "b")}
    assert len(shown) == 2, "the same value has another digest in another lineage"
    assert f"PIN={digest_bytes(b'1234')[:8]}" not in shown
