"""Secrets and data sources on the command line: the task and the file get the value, nothing that we write holds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.builder import Project

SECRET = "hunter2-correct-horse"
TASK = """
use:
  type: task
  command: test "$KEY" = "$(cat expected)" && echo ok > out.txt && echo "the key is $KEY"
  inputs: [expected]
  outputs: [out.txt]
  env: {KEY: "{{secrets.api-key}}"}
conf:
  type: file
  path: ROOT/conf
  content: "key={{secrets.api-key}}"
"""


def written(root: Path) -> list[str]:
    """Every file with the secret in it, other than those that must hold it and what the task itself printed."""
    found = [path for path in root.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    return sorted(str(path.relative_to(root)) for path in found if path.name != "log")


@pytest.mark.parametrize("provider", ["env", "file", "sops", "op"])
def test_a_secret_reaches_its_use_and_no_file_of_ours(
    project: Project, monkeypatch: pytest.MonkeyPatch, provider: str
) -> None:
    head = {
        "env": "", "file": "secrets: {provider: file, path: keys}\n", "sops": "secrets: {provider: sops, file: s.enc}\n",
        "op": "secrets: {provider: op, path: 'op://vault/item'}\n",
    }[provider]  # fmt: skip
    allowed = ["conf", "expected"]
    project.file("expected", SECRET)
    if provider == "env":
        monkeypatch.setenv("FORJAR_SECRET_API_KEY", SECRET)
    elif provider == "file":
        project.file("keys/api-key", f"{SECRET}\n")
        allowed.append("keys/api-key")
    else:
        wanted = (
            '--decrypt --extract ["api-key"] s.enc'
            if provider == "sops"
            else "read --no-newline op://vault/item/api-key"
        )
        project.file(f"bin/{provider}", f"#!/bin/sh\ntest \"$*\" = '{wanted}' && cat expected\n")
        (project.root / "bin" / provider).chmod(0o755)
        monkeypatch.setenv("PATH", f"{project.root / 'bin'}:/usr/bin:/bin")
    project.manifest(TASK.replace("ROOT", str(project.root)), f"\n{head}")
    said = [
        project.run(*argv) for argv in (["plan"], ["plan", "--json"], ["apply"], ["plan"], ["why", "use"], ["drift"])
    ]
    assert [one.exit for one in said] == [0] * 6, said
    assert not any(SECRET in one.out + one.err for one in said)
    project.holds("out.txt", "ok\n").holds("conf", f"key={SECRET}")
    assert "Nothing to do" in said[3].out or "2 unchanged" in said[3].out
    assert written(project.root) == sorted(allowed)
    logs = [path.read_text() for path in (project.root / "state").rglob("*.log")]
    assert logs == ["the key is ***\n"]


PRINTS = """
use:
  type: task
  command: echo "the key is $KEY"; touch out.txt
  outputs: [out.txt]
  env: {KEY: "{{secrets.api-key}}"}
"""


def test_what_a_task_wrote_is_shown_with_its_secrets_masked(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORJAR_SECRET_API_KEY", SECRET)
    project.manifest(PRINTS).does("apply").says("logs", "use", out="the key is ***")
    project.says("attach", "use", out="the key is ***", err="use, attempt 1: ended well. The next apply records it.")
    monkeypatch.setattr("albor_pipeline.run.follow.CHUNK_BYTES", 3)
    project.says("logs", "use", "-f", out="the key is ***")


def test_a_secret_that_cannot_be_read_any_more_cannot_be_masked_and_that_is_said(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORJAR_SECRET_API_KEY", SECRET)
    project.manifest(PRINTS).does("apply")
    monkeypatch.delenv("FORJAR_SECRET_API_KEY")
    why = "the secret `api-key` is not there: the environment has no `FORJAR_SECRET_API_KEY`"
    warning = f"warning: secrets may stand below, since they cannot be masked: {why}"
    project.says("logs", "use", out=f"the key is {SECRET}", err=warning)


def test_a_changed_secret_changes_the_file_and_not_the_task(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.file("expected", SECRET).manifest(TASK.replace("ROOT", str(project.root)))
    monkeypatch.setenv("FORJAR_SECRET_API_KEY", SECRET)
    project.does("apply")
    monkeypatch.setenv("FORJAR_SECRET_API_KEY", "another-one")
    steps = {step["resource_id"]: step["action"] for step in project.json("plan")["steps"]}
    assert steps == {"use": "skip", "conf": "update"}


def test_a_secret_that_is_not_there_is_an_error_of_the_plan(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORJAR_SECRET_API_KEY", raising=False)
    project.file("expected", SECRET).manifest(TASK.replace("ROOT", str(project.root)))
    said = project.run("plan")
    assert (
        said.exit == 1
        and "the secret `api-key` is not there: the environment has no `FORJAR_SECRET_API_KEY`" in said.err
    )
    assert "--> manifests/albor.yaml:9:16" in said.err
    project.says("validate", out="OK: tale (1 machine, 2 resources)")


@pytest.mark.parametrize(("provider", "program"), [("{provider: sops, file: s}", "sops"), ("{provider: op}", "op")])
def test_a_provider_whose_program_is_missing_says_so(
    project: Project, monkeypatch: pytest.MonkeyPatch, provider: str, program: str
) -> None:
    monkeypatch.setenv("PATH", str(project.root))
    project.file("expected", SECRET).manifest(TASK.replace("ROOT", str(project.root)), f"\nsecrets: {provider}\n")
    assert f"the program `{program}` is not installed" in project.run("plan").err


def test_an_age_marker_without_the_package_is_an_error(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyrage", None)
    project.manifest("t: {type: task, command: 'true', env: {K: 'ENC[age,QUJDREVGR0hJSktMTU5PUA==]'}}")
    said = project.run("plan")
    assert said.exit == 1 and "needs the package `pyrage`, which is not installed" in said.err


def test_an_age_marker_is_opened_with_the_key(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    import base64

    pyrage = pytest.importorskip("pyrage", reason="age markers need pyrage")
    identity = pyrage.x25519.Identity.generate()
    sealed = base64.b64encode(pyrage.encrypt(SECRET.encode(), [identity.to_public()])).decode()
    monkeypatch.setenv("FORJAR_AGE_KEY", str(identity))
    project.file("expected", SECRET)
    project.manifest(TASK.replace("ROOT", str(project.root)).replace("{{secrets.api-key}}", f"ENC[age,{sealed}]"))
    project.does("apply").holds("conf", f"key={SECRET}")


def test_data_is_read_when_planning_and_not_when_validating(project: Project) -> None:
    head = """
    data:
      word: {type: command, value: "echo once >> ran; cat word"}
      host: {type: dns, value: localhost}
      note: {type: file, value: note.txt, default: none}
    """
    project.file("word", "first\n").manifest(
        't: {type: task, command: "echo {{data.word}} {{data.host}} {{data.note}} > out.txt", outputs: [out.txt]}', head
    )
    project.does("validate").holds("ran", None)
    project.does("apply").holds("out.txt", "first 127.0.0.1 none\n").holds("ran", "once\n")
    project.file("word", "second\n")
    assert "command changed" in project.run("plan").out


def test_data_takes_the_outputs_of_another_pipeline(project: Project) -> None:
    project.manifest("t: {type: task, command: 'true'}", "\noutputs: {port: {value: 8080}}\n").does("apply")
    project.file("other/m.yaml", """
        version: "1.0"
        name: other
        data: {up: {type: forjar-state, state_dir: ../state}}
        resources:
          t: {type: task, command: "echo {{data.up.port}} > out.txt", outputs: [out.txt]}
    """)  # fmt: skip
    project.does("apply", "other/m.yaml").holds("other/out.txt", "8080\n")


def test_data_is_of_the_pipeline_that_is_named(project: Project) -> None:
    project.manifest("t: {type: task, command: 'true'}", "\noutputs: {port: {value: 8080}}\n").does("apply")
    project.file("other/m.yaml", """
        version: "1.0"
        name: other
        data: {up: {type: forjar-state, state_dir: ../state, config: tale}}
        resources:
          t: {type: task, command: "echo {{data.up.port}} > out.txt", outputs: [out.txt]}
    """)  # fmt: skip
    project.does("apply", "other/m.yaml").holds("other/out.txt", "8080\n").edit("config: tale", "config: net", "other/m.yaml")
    said = project.run("plan", "other/m.yaml")
    assert said.exit == 1 and "data source `up`: ../state is the state of `tale`, not of `net`" in said.err, said
    project.file("old/forjar.lock.yaml", "schema: '1.0'\nname: net\noutputs: {port: '9090'}\n").edit("../state", "../old", "other/m.yaml")
    project.does("apply", "other/m.yaml").holds("other/out.txt", "9090\n")
