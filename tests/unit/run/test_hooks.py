"""Commands of the policy around a run: before it, after full success, and the notice of how it ended."""

from __future__ import annotations

import json
import subprocess

import pytest
from support_run import Project, task

pytestmark = pytest.mark.slow
POLICY = """policy:
  failure: continue_independent
  pre_apply: echo before >> hooks.log
  post_apply: echo after >> hooks.log
  notify: { on_success: echo well >> hooks.log, on_failure: echo badly >> hooks.log }
"""


def test_all_hooks_of_a_run_that_ends_well(project: Project) -> None:
    project.manifest(task("good", "cat hooks.log > seen.txt", "outputs: [seen.txt]"), top=POLICY)
    assert project.run("apply").code == 0
    assert project.starts("seen.txt") == ["before"]
    assert project.starts("hooks.log") == ["before", "well", "after"]


def test_nothing_is_announced_when_there_is_nothing_to_do(project: Project) -> None:
    project.manifest(task("good", "true"), top=POLICY)
    project.run("apply")
    assert project.run("apply").code == 0
    assert project.starts("hooks.log") == ["before", "well", "after"]


def test_a_failed_run_tells_only_of_the_failure(project: Project) -> None:
    project.manifest(task("bad", "exit 1"), task("good", "true"), top=POLICY)
    assert project.run("apply").code == 3
    assert project.starts("hooks.log") == ["before", "badly"]


def test_a_pre_apply_that_fails_starts_nothing(project: Project) -> None:
    project.manifest(task("good", "true"), top=POLICY.replace("echo before >> hooks.log", "exit 4"))
    said = project.run("apply")
    assert said.code == 1
    assert "policy.pre_apply ended with exit 4; nothing was started" in said.err
    assert project.starts() == []
    project.manifest(task("good", "true"))
    assert project.run("apply").code == 0
    assert project.starts() == ["good"]


def test_a_post_apply_that_fails_is_told_and_the_work_is_kept(project: Project) -> None:
    project.manifest(task("good", "true"), top=POLICY.replace("echo after >> hooks.log", "exit 5"))
    said = project.run("apply")
    assert said.code == 1
    assert "policy.post_apply ended with exit 5; the run itself is saved" in said.err
    assert project.row("good")["status"] == "converged"


@pytest.mark.parametrize(("hook", "told"), [
    ("pre_apply", "policy.pre_apply ended with exit 3; nothing was started"),
    ("post_apply", "policy.post_apply ended with exit 3; the run itself is saved"),
    ("notify: {on_success", "policy.notify.on_success ended with exit 3; log: state/runs/0001/hook:on_success.log"),
])  # fmt: skip
def test_what_a_failed_hook_printed_is_kept_masked_named_and_shown(
    project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], hook: str, told: str
) -> None:
    monkeypatch.setenv("FORJAR_SECRET_TOKEN", "hunter2-hunter2")
    name = hook.rpartition("{")[2]
    end = "}" if "{" in hook else ""
    command = "seq -f 'line %g' 40; echo $FORJAR_SECRET_TOKEN >&2; exit 3"
    project.manifest(task("good", "true", 'env: {TOKEN: "{{secrets.token}}"}'), top=f"policy:\n  {hook}: {command!r}{end}\n")
    said, printed = project.run("apply"), "".join(f"line {number}\n" for number in range(1, 41)) + "***\n"
    log = f"state/runs/0001/hook:{name}.log"
    assert told in said.err + said.out and f"log: {log}" in said.err + said.out, said
    assert capfd.readouterr().err == printed
    assert (project.root / log).read_text() == printed
    assert project.run("logs", f"policy.{'notify.' if end else ''}{name}").out == printed


def test_a_hook_that_ends_well_keeps_nothing_and_what_it_left_running_goes_on(project: Project) -> None:
    project.manifest(task("good", "true"), top="policy: { pre_apply: \"echo well; (sleep 1; echo on; touch later) &\" }\n")
    assert project.run("apply").code == 0
    project.wait(lambda: (project.root / "later").exists())
    assert list((project.root / "state/runs").rglob("hook:*")) == []
    said = project.run("logs", "policy.pre_apply")
    assert said.code == 1 and "no log of `policy.pre_apply` was kept" in said.err


@pytest.mark.parametrize("hook", ["pre_apply", "post_apply"])
def test_what_a_hook_prints_never_mixes_with_json(project: Project, hook: str) -> None:
    project.manifest(task("good", "true"), top=f"policy: {{ {hook}: echo from the hook }}\n")
    process = project.start("apply", "--json")
    out, err = process.communicate(timeout=60)
    assert json.loads(out)["counts"] == {"done": 1}
    assert "from the hook" in err


def test_a_hook_gets_no_terminal_to_read_from(project: Project) -> None:
    project.manifest(task("good", "true"), top="policy: { pre_apply: test -z \"$(cat)\" }\n")
    process = project.start("apply", stdin=subprocess.PIPE)
    process.communicate("typed\n", timeout=60)
    assert process.returncode == 0
