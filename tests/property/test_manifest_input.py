"""Laws of the manifest room: whatever a file holds ends in a manifest or in diagnostics, and layout means nothing."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from albor_pipeline.cli import main
from albor_pipeline.errors import ManifestError
from albor_pipeline.manifest.load import load
from albor_pipeline.manifest.scope import Scope
from albor_pipeline.manifest.template import resolve
from albor_pipeline.resources.fields import Quoted, typed
from albor_pipeline.resources.shell import quote
from albor_pipeline.ui.diagnostics import render_all

GOOD = Path(__file__).parent.parent / "golden" / "manifest" / "many_mistakes" / "manifest.yaml"
PLAIN = st.one_of(st.integers(), st.booleans(), st.none())
SCALAR = st.one_of(PLAIN, st.floats(), st.text(max_size=12), st.sampled_from(["{{params.a}}", "a", "{{"]))
WORDS = """
version name params machines resources policy outputs t type task command inputs needs depends_on retry env config stage
set path addr machine python content state value x
"""
KEYS = st.sampled_from(WORDS.split())
VALUE = st.recursive(
    SCALAR,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=20,
)
FAST = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    try:
        load(path)
    except ManifestError as error:
        assert error.diagnostics
        text = render_all(error.diagnostics)
        assert all(letter.isprintable() or letter == "\n" for letter in text if letter.isascii())
        return text
    return ""


@FAST
@given(data=st.binary(max_size=400))
def test_any_bytes_give_diagnostics_and_never_a_traceback(tmp_path: Path, data: bytes) -> None:
    assert outcome(tmp_path / "m.yaml", data)


@FAST
@given(
    at=st.integers(0, 900),
    drop=st.integers(0, 30),
    insert=st.text("{}[]:,-#&*!|>'\"%@` \t\n\0\x1bé\u202eab019", max_size=6),
)
def test_a_damaged_manifest_gives_diagnostics_and_never_a_traceback(
    tmp_path: Path, at: int, drop: int, insert: str
) -> None:
    text = GOOD.read_text()
    assert outcome(tmp_path / "m.yaml", (text[:at] + insert + text[at + drop :]).encode())


@FAST
@given(
    value=st.dictionaries(KEYS, VALUE, max_size=7),
    kind=st.sampled_from(["task", "file", "python_env", "docker", "x"]),
    fields=VALUE,
)
def test_any_tree_of_known_keys_gives_a_manifest_or_diagnostics(
    tmp_path: Path, value: Any, kind: str, fields: Any
) -> None:
    inner = {"type": kind, **fields} if isinstance(fields, dict) else fields
    tree = {**value, "version": "1.0", "name": "x", "resources": {"t": inner, "u": value}}
    outcome(tmp_path / "m.yaml", yaml.safe_dump(tree, allow_unicode=True).encode(errors="replace"))


@FAST
@given(
    command=st.text(min_size=1).filter(str.strip),
    env=st.dictionaries(st.text("ABC", min_size=1), st.text(), max_size=3),
)
def test_block_flow_and_json_say_the_same(tmp_path: Path, command: str, env: dict[str, str]) -> None:
    tree = {
        "version": "1.0",
        "name": "x",
        "resources": {"t": {"type": "task", "command": command.replace("{{", "{"), "env": env}},
    }
    tree["resources"]["t"]["env"] = {key: value.replace("{{", "{") for key, value in env.items()}  # type: ignore[index]
    texts = [
        yaml.safe_dump(tree, default_style='"'),
        yaml.safe_dump(tree, default_style='"', default_flow_style=True, width=10_000),
        "# a comment\n" + json.dumps(tree, indent=3),
    ]
    found = []
    for text in texts:
        (tmp_path / "m.yaml").write_bytes(text.encode(errors="surrogatepass"))
        try:
            found.append(load(tmp_path / "m.yaml").resources["t"].fields)
        except ManifestError as error:
            found.append(error.diagnostics[0].code)
    assert found[0] == found[1]
    if command.isascii() and command.isprintable() and not any(value for value in env.values()):
        assert found[0] == found[2]
        assert found[0].command == command.replace("{{", "{")


@FAST
@given(text=st.text())
def test_doubled_braces_come_out_as_braces(text: str) -> None:
    plain = text.replace("{", "")
    assert resolve(f"{plain}{{{{{{{{{plain}", Scope()) == (f"{plain}{{{{{plain}", [])


@FAST
@given(value=st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3)))
def test_free_values_are_read_as_json_reads_them(value: Any) -> None:
    def raw(item: Any) -> Any:
        return [raw(each) for each in item] if isinstance(item, list) else json.dumps(item)

    assert typed(raw(value)) == value


@FAST
@given(text=st.text())
def test_quoted_text_stays_text(text: str) -> None:
    assert typed(Quoted(text)) == text


@pytest.mark.parametrize("dash", [False, True])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(
        st.one_of(
            st.sampled_from("'\"\\$`!*?~#&;|<>(){}[] \t\n"),
            st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
        )
    )
)
@example(text="it's")
def test_the_shell_reads_back_what_was_quoted(text: str, dash: bool) -> None:
    text = f"-{text}" if dash else text
    shown = subprocess.run(["sh", "-c", f"printf %s {quote('x' + text)}"], capture_output=True, check=True).stdout
    assert shown.decode() == f"x{text}"


@FAST
@given(
    commands=st.lists(st.text("ab/. ;&|<>()[]{}$'\"\\\n*-=", max_size=30), min_size=1, max_size=3),
    paths=st.lists(st.text("ab/.*?[]", max_size=12), max_size=4),
    check=st.text("ab/. -f&<>'\"$\n", max_size=30),
)
def test_paths_and_shell_text_of_any_kind_are_judged_and_never_a_traceback(
    tmp_path: Path, commands: list[str], paths: list[str], check: str
) -> None:
    def task(index: int, command: str) -> dict[str, Any]:
        return {"type": "task", "command": command, "inputs": paths[index::2], "outputs": paths[::2], "completion_check": check}

    tree = {"version": "1.0", "name": "x", "resources": {f"t{index}": task(index, text) for index, text in enumerate(commands)}}
    path = tmp_path / "m.yaml"
    path.write_bytes(yaml.safe_dump(tree, default_style='"').encode())
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        assert main(["validate", str(path)]) in (0, 1)
    assert "Traceback" not in said.getvalue()
