"""Data sources and secrets as declared: which templates may name them, and what a wrong one makes a user see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from support_manifest import Folder

from albor_pipeline.errors import AlborError
from albor_pipeline.model.manifest import DataSource, secret_mark

TASK = "resources:\n  t: {type: task, command: \"run {{data.rev}}\", timeout: '{{data.limit}}'}\n"
DATA = "params: {n: abc}\ndata:\n  rev: {type: command, value: 'echo {{params.n}}'}\n  limit: {type: file, value: limit.txt, default: 7}\n"


def fetch(values: Mapping[str, str]) -> Callable[[Path], Callable[[DataSource], Mapping[str, str]]]:
    def read(source: DataSource) -> Mapping[str, str]:
        if source.name not in values:
            raise AlborError.of("data", "it is not there")
        return {"": f"{values[source.name]}:{source.value}"} if source.name == "rev" else {"": values[source.name]}

    return lambda root: read


def test_a_template_takes_what_the_source_gives_or_its_default(folder: Folder) -> None:
    folder.manifest(DATA + TASK)
    fields = folder.load(fetch=fetch({"rev": "1", "limit": "30"})).resources["t"].fields
    assert (fields.command, fields.timeout_s) == ("run 1:echo abc", 30.0)
    assert folder.load(fetch=fetch({"rev": "1"})).resources["t"].fields.timeout_s == 7.0


def test_a_machine_may_be_where_a_source_says(folder: Folder) -> None:
    folder.manifest("machines: {m: {addr: '{{ data.limit }}'}}\n" + DATA + "resources:\n  t: {type: task, machine: m, command: x}\n")
    assert folder.load(fetch=fetch({"limit": "10.0.0.7"})).machines["m"].addr == "10.0.0.7"
    assert list(folder.load().machines) == ["m"]


def test_without_a_reader_nothing_is_run_and_nothing_is_wrong(folder: Folder) -> None:
    folder.manifest(DATA + TASK)
    assert list(folder.load().resources) == ["t"]


def test_a_source_that_fails_is_shown_where_it_is_used(folder: Folder) -> None:
    folder.manifest(DATA + TASK)
    found = folder.says(fetch=fetch({"limit": "1"}))
    assert "data source `rev`: it is not there" in found and "--> m.yaml:8:33" in found
    assert "= the source is declared at m.yaml:5:3" in found


def test_outputs_of_another_state_are_named(folder: Folder) -> None:
    folder.manifest(
        "data: {up: {type: forjar-state, state_dir: ../up/state}}\n"
        "resources:\n  t: {type: task, command: '{{data.up.host}} {{data.up.port}}'}\n"
        "  u: {type: task, command: '{{data.up.x}} {{data.up}}'}\n"
    )
    found = folder.says(fetch=lambda root: lambda source: {"host": "h", "port": "1"})
    assert "data source `up` has no output `x`" in found and "= its outputs: host, port" in found
    assert "data source `up` has several outputs; name one" in found and found.count("error[") == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: {a: {type: http, value: x}}", "`type` of data source `a` cannot be `http`"),
        ("data: {a: {type: file}}", "data source `a` needs `value`, because it is of type `file`"),
        ("data: {a: {type: forjar-state, config: [x]}}", "`config` of data source `a` must be text, not a list"),
        ("data: {a: {type: file, value: x, max_staleness: 1h}}", "`max_staleness` is not supported yet"),
        ("data: {a: {type: file, value: '{{data.b}}'}}", "there is no data source `b`"),
        (
            "data: {rev: {type: file, value: x}}\nresources: {t: {type: task, command: '{{data.rv}}'}}",
            "did you mean `rev`?",
        ),
        ("secrets: {provider: vault}", "`provider` of `secrets` cannot be `vault`"),
        ("secrets: {provider: sops}", "`secrets` needs `file`, because its provider is `sops`"),
        ("secrets: {ephemeral: true}", "`ephemeral` is not supported yet"),
    ],
)
def test_a_wrong_source_is_explained(folder: Folder, text: str, message: str) -> None:
    folder.manifest(text + "\n")
    found = folder.says(fetch=fetch({}))
    assert message in found and found.count("error[") == 1


def test_a_secret_is_a_mark_and_never_a_value(folder: Folder) -> None:
    folder.manifest(
        "secrets: {provider: env}\nresources:\n  t: {type: task, command: x, env: {KEY: '{{secrets.api-key}}'}}\n"
        "  f: {type: file, path: /etc/x, content: 'key={{ secrets.api-key }} {{secrets.b}}'}\n"
    )
    manifest = folder.load()
    assert manifest.resources["t"].fields.env == {"KEY": secret_mark("api-key")}
    assert manifest.resources["f"].fields.content == f"key={secret_mark('api-key')} {secret_mark('b')}"
    assert {name: str(span).rpartition("m.yaml")[2] for name, span in manifest.secrets.names.items()} == {
        "api-key": ":5:42",
        "b": ":6:42",
    }


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("command: 'x {{secrets.k}}'", "the secret `k` cannot stand here"),
        ("command: x, description: '{{secrets.k}}'", "the secret `k` cannot stand here"),
        ("command: x, outputs: ['{{secrets.k}}']", "the secret `k` cannot stand here"),
        ("command: x, env: {K: '{{upper(secrets.k)}}'}", "a function cannot be applied to a secret"),
        ("command: x, machine: '{{secrets.k}}'", "the secret `k` cannot stand here"),
    ],
)
def test_a_secret_where_it_would_be_written_is_refused(folder: Folder, field: str, message: str) -> None:
    folder.manifest(f"resources:\n  t: {{type: task, {field}}}\n")
    found = folder.says()
    assert message in found and found.count("error[") == 1


MARKER = "ENC[age,YWdlLWVuY3J5cHRpb24ub3JnL3Yx]"


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        (f"command: 'x {MARKER}'", 1),
        ("command: 'x {{params.k}}'", 1),
        (f"command: x, outputs: ['{MARKER}']", 1),
        (f"command: x, env: {{K: '{MARKER}', L: '{{{{params.k}}}}'}}", 0),
        ("command: 'x ENC[age,...]'", 0),
    ],
)
def test_an_encrypted_value_is_refused_where_it_would_stay_encrypted(folder: Folder, field: str, wrong: int) -> None:
    folder.manifest(f"params: {{k: '{MARKER}'}}\nresources:\n  t: {{type: task, {field}}}\n")
    if wrong:
        assert folder.says().count("error[secret-place]: an `ENC[age,...]` value cannot stand here\n") == wrong
    else:
        assert "t" in folder.load().resources


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("data: {a: {type: file, value: x, state_dir: s, config: c, outputs: [o]}}", ["state_dir", "config", "outputs"]),
        ("data: {a: {type: forjar-state, value: x}}", ["value"]),
        ("data: {a: {type: dns, value: x, state_dir: state, outputs: []}}", []),
        ("secrets: {provider: env, path: p, file: f}", ["path", "file"]),
        ("secrets: {provider: sops, path: p, file: f}", ["path"]),
        ("secrets: {provider: op, path: p, file: null}", []),
    ],
)
def test_a_key_that_another_kind_of_source_looks_at_is_a_warning(folder: Folder, text: str, told: list[str]) -> None:
    found = folder.manifest(f"{text}\n").warns()
    assert found.count("warning[no-effect]") == len(told) and all(f"`{name}` has no effect on " in found for name in told), found
