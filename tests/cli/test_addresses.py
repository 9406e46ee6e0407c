"""A password in an address of the manifest: it reaches the server, and no plan, state, journal, log or error of ours."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
from fakehub import Hub, gguf

from albor_pipeline.manifest.load import load
from albor_pipeline.model import addresses
from albor_pipeline.resources.base import Instance
from albor_pipeline.resources.registry import convergent
from cli.builder import Project

PASSWORD = "hunter2-correct-horse"
HEAD = f"params: {{keyed: 'https://ann:{PASSWORD}@host.test'}}\n"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A server that gives a file only to ann, who has a password."""
    with Hub() as made:
        made.account = base64.b64encode(f"ann:{PASSWORD}".encode()).decode()
        monkeypatch.setenv("ALBOR_TEST_PAUSE_S", "0.01")
        made.offer("ann/tiny", "c1", tiny__gguf=gguf("Q8_0"))
        yield made


def source(server: Hub, password: str = PASSWORD) -> str:
    return f"{server.url.replace('//', f'//ann:{password}@')}/ann/tiny/resolve/c1/tiny.gguf"


def written(project: Project) -> list[str]:
    """Every file with the password in it."""
    found = [path for path in project.root.rglob("*") if path.is_file() and PASSWORD.encode() in path.read_bytes()]
    return sorted(str(path.relative_to(project.root)) for path in found)


def test_the_password_of_a_model_is_used_and_written_nowhere(project: Project, server: Hub) -> None:
    project.manifest(f"m: {{type: model, name: tiny, path: m.gguf, source: '{source(server)}', cache_dir: kept}}")
    said = [project.run(*argv) for argv in (
        ("plan",), ("plan", "--json"), ("apply",), ("plan",), ("why", "m"), ("template", "m"), ("state", "show", "m"), ("drift",),
    )]  # fmt: skip
    assert (project.root / "m.gguf").read_bytes() == gguf("Q8_0")
    assert not any(PASSWORD in one.out + one.err for one in said), said
    assert "1 unchanged" in said[3].out
    assert written(project) == ["manifests/albor.yaml"]


def test_another_password_asks_for_the_same_model_and_another_source_is_shown_without_one(project: Project, server: Hub) -> None:
    project.manifest(f"m: {{type: model, name: tiny, path: m.gguf, source: '{source(server)}'}}").does("apply")
    project.edit(PASSWORD, "changed-since").says("apply", out="Nothing to do: 1 unchanged.")
    said = project.edit("ann/tiny/resolve", "ann/other/resolve").run("plan")
    assert "ann:***@127.0.0.1" in said.out and "changed-since" not in said.out, said


def test_a_failing_fetch_and_a_wrong_manifest_do_not_tell_it(project: Project, server: Hub) -> None:
    server.account = "another"
    project.manifest(f"m: {{type: model, name: tiny, path: m.gguf, source: '{source(server)}'}}")
    said = project.run("apply")
    assert said.exit == 3 and "HTTP 401: a token is needed" in said.err and PASSWORD not in said.out + said.err, said
    project.edit("type: model", "typ: model")
    for argv in (("plan",), ("plan", "--json"), ("validate",)):
        said = project.run(*argv)
        assert said.exit == 1 and PASSWORD not in said.out + said.err, said
    assert "ann:*********************@127.0.0.1" in said.err, said
    assert written(project) == ["manifests/albor.yaml"]


@pytest.mark.parametrize("password", [PASSWORD, "p1"])
def test_what_a_machine_says_of_it_is_masked(project: Project, password: str) -> None:
    project.manifest(f"""
        conf: {{type: file, path: conf, content: x, pre_apply: "echo cannot reach https://ann:{password}@host.test >&2; exit 1"}}
    """)
    said = project.run("apply")
    assert said.exit == 3 and "cannot reach https://ann:***@host.test" in said.err, said
    assert f":{password}@" not in said.out + said.err and set(written(project)) <= {"manifests/albor.yaml"}


@pytest.mark.parametrize("fields", [
    "{type: model, name: m, source: '{{params.keyed}}/m.gguf', cache_dir: kept}",
    "{type: python_env, index_url: '{{params.keyed}}', extra_index_url: '{{params.keyed}}/2'}",
    "{type: python_env, requirements: ['x @ git+{{params.keyed}}/x@v1'], requirements_file: r.txt, constraints: r.txt}",
    "{type: docker, name: d, image: busybox, command: 'fetch {{params.keyed}}/x', environment: ['AT={{params.keyed}}']}",
    "{type: cron, name: c, schedule: '@daily', command: 'curl {{params.keyed}}/x'}",
    "{type: mount, path: /mnt/x, source: '{{params.keyed}}/x', fstype: fuse}",
    "{type: task, command: 'curl {{params.keyed}}', env: {AT: '{{params.keyed}}'}}",
])  # fmt: skip
def test_no_type_shows_or_records_it(project: Project, fields: str) -> None:
    project.file("r.txt", f"--index-url https://ann:{PASSWORD}@host.test\n").manifest(f"it: {fields}", HEAD)
    said = [project.run("plan"), project.run("plan", "--json"), project.run("template", "it")]
    assert [one.exit for one in said] == [0, 0, 0] and not any(PASSWORD in one.out + one.err for one in said), said
    manifest = load(project.root / "manifests/albor.yaml")
    resource = manifest.resources["it"]
    if resource.kind != "task":
        kind, one = convergent(resource.kind), Instance(resource, manifest.machines["localhost"], project.root)
        assert PASSWORD not in str(kind.remove(one)), "how it is taken away is recorded"
    assert written(project) == ["manifests/albor.yaml", "r.txt"]


def test_no_digest_of_a_file_with_a_password_gives_it_away(project: Project) -> None:
    def wanted(password: str) -> object:
        project.file("r.txt", f"--index-url https://ann:{password}@host.test\n")
        project.manifest("it: {type: python_env, requirements_file: r.txt}")
        return project.json("plan")["steps"][0]["fingerprint"]

    assert wanted("one") == wanted("two")


@pytest.mark.parametrize(("text", "shown"), [
    ("https://u:p@h/x", "https://u:***@h/x"), ("git+https://u:p@h/x@v1", "git+https://u:***@h/x@v1"),
    ("https://token@h/", "https://***@h/"), ("ssh://git@h/x", "ssh://git@h/x"), ("ssh://git:p@h/x", "ssh://git:***@h/x"),
    ("https://u:p@ss@h/", "https://u:***@h/"), ("https://u:p/w@h/x", "https://u:***@h/x"),
    ("http://h:8080/x@y", "http://h:8080/x@y"), ("https://h/x@v1", "https://h/x@v1"),
    ("curl https://$USER:$WORD@h", "curl https://$USER:$WORD@h"), ("'http://a:b@h' 'http://c:d@h'", "'http://a:***@h' 'http://c:***@h'"),
])  # fmt: skip
def test_only_what_is_a_password_is_hidden(text: str, shown: str) -> None:
    assert addresses.shown(text) == shown == addresses.shown(shown)
    assert len(addresses.blotted(text)) == len(text)
