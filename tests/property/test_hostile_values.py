"""Values that a shell would read as something else, in every text of packages, environments and models: they arrive, or are refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from albor_pipeline.errors import ManifestError
from albor_pipeline.manifest.load import load
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources.base import Instance
from albor_pipeline.resources.registry import convergent

STUB = """#!/bin/sh
{
  printf '%s\\0' "${0##*/}" "${PIP_INDEX_URL-}" "${PIP_EXTRA_INDEX_URL-}" "$@"
  case "$*" in *"-I -c"*) cat; printf '\\0' ;; esac
} >> "$SEEN"
"""
PROGRAMS = ("apt-get", "apt-cache", "dpkg", "dpkg-query", "uv", "cargo", "python3", "pip", "chown", "rm", "mv", "test")
HOSTILE = (
    "a'b", 'a"b', "$(touch pwned)", "`touch pwned`", "a;touch pwned", "a\ntouch pwned\n", "a\\", "-rf", "--help", "é漢\U0001f600", "a b",
    "*", "~", "a\0b", "x" * (1 << 20), "${HOME}",
    "'; touch pwned; '", "%s%n", "\t", "!!", "a&touch pwned&", "a|touch pwned", "#a", "a\r\nb",
)  # fmt: skip
MODEL = {"name": "m", "source": "ann/tiny", "format": "gguf", "path": "m.gguf"}
ENVIRONMENT = {"type": "python_env", "path": "../env", "requirements": ["six"]}
FIELDS: dict[str, tuple[str, dict[str, Any]]] = {
    "apt packages": ("packages", {"type": "package", "provider": "apt", "packages": []}),
    "apt version": ("version", {"type": "package", "provider": "apt", "packages": ["jq"]}),
    "uv packages": ("packages", {"type": "package", "provider": "uv", "packages": []}),
    "pip packages": ("packages", {"type": "package", "provider": "pip", "packages": []}),
    "pip version": ("version", {"type": "package", "provider": "pip", "packages": ["six"]}),
    "cargo packages": ("packages", {"type": "package", "provider": "cargo", "packages": []}),
    "cargo source": ("source", {"type": "package", "provider": "cargo", "packages": ["a"]}),
    **{f"python_env {name}": (name, ENVIRONMENT) for name in ("path", "python", "index", "extra_index_url")},
    **{f"python_env {name}": (name, {**ENVIRONMENT, name: []}) for name in ("requirements", "imports")},
    "model checked source": ("source", {"type": "model", **MODEL}),
    **{
        f"model {name}": (name, {"type": "model", **MODEL})
        for name in ("path", "revision", "format", "quantization", "cache_dir", "owner", "token", "checksum")
    },
    "model name": ("name", {"type": "model", "name": "m", "source": "ann/tiny"}),
}  # fmt: skip


def arrives(root: Path, field: str, fields: dict[str, Any], value: str) -> bool | None:
    """Whether the value reached the machine's programs, or the agent, as it is; None where it is refused."""
    given_value = [value] if isinstance(fields.get(field), list) else value
    path = root / "m.yaml"
    path.write_text(f'version: "1.0"\nname: x\nresources:\n  it: {json.dumps({**fields, field: given_value})}\n')
    try:
        manifest = load(path)
        one = Instance(manifest.resources["it"], manifest.machines["localhost"], root)
        kind = convergent(one.resource.kind)
        kind.wanted(one)
        new = Observation(False)
        operations = [*kind.converge(one, new), *kind.remove(one), *kind.probes(one), *kind.forecasts(one, new)]
    except ManifestError:
        return None
    seen = root / "seen"
    seen.write_bytes(b"")
    told = b""
    for operation in operations:
        if "script" in operation:
            script = root / "script"
            script.write_text(operation["script"])
            env = {"PATH": f"{root}/stubs:/usr/bin:/bin", "HOME": str(root), "SEEN": str(seen)}
            done = subprocess.run(["/bin/sh", str(script)], cwd=root / "cwd", env=env, capture_output=True, check=False, timeout=30)
            told += done.stderr
        else:
            told += b"\0".join(text if isinstance(text, bytes) else str(text).encode() for text in operation.values())
    assert not list((root / "cwd").iterdir()), "a value was read by a shell"
    reached = seen.read_bytes() + told
    return value.encode() in reached or json.dumps(value)[1:-1].encode() in reached


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with programs that tell what they were given."""
    made = tmp_path_factory.mktemp("hostile")
    for folder in ("stubs", "cwd", "env/bin"):
        (made / folder).mkdir(parents=True)
    for name in (*(f"stubs/{program}" for program in PROGRAMS), "env/bin/python"):
        (made / name).write_text(STUB)
        (made / name).chmod(0o755)
    return made


@pytest.mark.parametrize("where", FIELDS)
def test_hostile_values_arrive_or_are_refused(root: Path, where: str) -> None:
    field, fields = FIELDS[where]
    assert [value[:40] for value in HOSTILE if arrives(root, field, fields, value) is False] == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.sampled_from(sorted(FIELDS)), value=st.text(min_size=1, max_size=20))
def test_any_text_arrives_or_is_refused(root: Path, where: str, value: str) -> None:
    field, fields = FIELDS[where]
    assert arrives(root, field, fields, value) is not False
