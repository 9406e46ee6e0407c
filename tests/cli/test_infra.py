"""What must be true of a machine: triggers, hooks, lifecycle, drift by policy, what is taken away again, and what is only recorded."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.transport.client import AgentClient
from cli.builder import Project

PAIR = """
conf:
  type: file
  path: srv/conf
  content: "a=1\\n"
  mode: "0640"
after:
  type: file
  path: srv/after
  content: x
  triggers: [conf]
  pre_apply: echo before >> told
  post_apply: echo after >> told
"""


def told(project: Project) -> list[str]:
    path = project.root / "told"
    return path.read_text().split() if path.exists() else []


def steps(project: Project, *argv: str) -> dict[str, tuple[str, str]]:
    """The plan: name -> (action, reason)."""
    said = project.run("plan", "--json", *argv)
    return {step["resource_id"]: (step["action"], step["reason"]["text"]) for step in json.loads(said.out)["steps"]}


def recorded(project: Project) -> list[str]:
    return [row["resource"] for row in json.loads(project.run("state", "list", "--json").out)["rows"]]


@pytest.mark.effect("any.triggers", "any.pre_apply", "any.post_apply")
def test_a_trigger_does_it_again_with_its_hooks_and_only_when_the_other_changed(project: Project) -> None:
    project.manifest(PAIR).does("apply")
    assert told(project) == ["before", "after"]
    assert project.run("apply").out == "Nothing to do: 2 unchanged.\n"
    project.edit("a=1", "a=2")
    assert steps(project)["after"] == ("may_run", "if conf changes")
    project.does("apply")
    assert told(project) == ["before", "after"] * 2
    assert project.run("apply").out == "Nothing to do: 2 unchanged.\n"


def test_a_trigger_that_was_cut_off_is_not_forgotten(project: Project) -> None:
    project.manifest(PAIR).does("apply").edit("a=1", "a=2")
    project.edit("echo before", "false; echo before")
    project.edit("echo before >> told", "exit 7")
    said = project.run("apply")
    assert said.exit == 3 and "pre_apply: exit 7" in said.err, said
    project.edit("false; exit 7", "echo before >> told")
    assert steps(project) == {"conf": ("skip", "unchanged"), "after": ("update", "conf changed")}
    project.does("apply")
    assert told(project) == ["before", "after"] * 2


def test_healing_what_drifted_triggers_too(project: Project) -> None:
    project.manifest(PAIR).does("apply")
    (project.root / "srv/conf").chmod(0o600)
    project.does("apply")
    assert told(project) == ["before", "after"] * 2


@pytest.mark.effect("any.restart_on")
def test_restart_on_is_a_trigger(project: Project) -> None:
    project.manifest(PAIR.replace("triggers:", "restart_on:")).does("apply").edit("a=1", "a=2").does("apply")
    assert told(project) == ["before", "after"] * 2


@pytest.mark.effect("any.depends_on")
def test_a_failing_hook_is_a_failure_and_holds_what_depends_on_it(project: Project) -> None:
    project.manifest("""
        one: {type: file, path: srv/one, content: x, pre_apply: exit 9}
        two: {type: file, path: srv/two, content: x, depends_on: [one]}
    """)
    said = project.run("apply")
    assert said.exit == 3 and "pre_apply: exit 9" in said.err and "1 failed, 1 not started" in said.out, said
    assert not (project.root / "srv").exists()


def test_what_a_failed_hook_printed_is_kept_whole_and_named(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORJAR_SECRET_TOKEN", "hunter2-hunter2")
    project.manifest("""
        a: {type: file, path: x, content: "{{secrets.token}}", post_apply: "seq -f 'line %g' 40; cat x >&2; echo >&2; exit 3"}
    """)
    said = project.run("apply")
    assert said.exit == 3 and "log: state/runs/0001/a@localhost.log" in said.err, said
    assert "post_apply: exit 3, state/runs/0001/a@localhost.log" in project.run("status").out
    printed = "".join(f"line {number}\n" for number in range(1, 41)) + "***\n"
    project.holds("state/runs/0001/a@localhost.log", printed).says("logs", "a", out=printed.rstrip())
    project.edit("exit 3", "exit 0").does("apply").says("logs", "a", exit=1, err="""
        error[no-log]: no log of `a` on localhost was kept
          = what is no task keeps only what it printed when it failed, until it is converged
    """)


@pytest.mark.effect("any.lifecycle")
def test_the_drift_of_a_field_is_left_alone_where_the_lifecycle_says_so(project: Project) -> None:
    project.manifest("""
        data: {type: file, state: directory, path: data, mode: "0755", lifecycle: {ignore_drift: [mode]}}
    """).does("apply")
    (project.root / "data").chmod(0o700)
    assert project.run("drift").exit == 0
    assert project.run("apply").out == "Nothing to do: 1 unchanged.\n"
    project.edit('"0755"', '"0750"')
    assert steps(project)["data"] == ("update", "field mode 0755 -> 0750; mode: recorded 0755, found 0700")
    project.does("apply")
    assert (project.root / "data").stat().st_mode & 0o777 == 0o750


def test_a_field_that_cannot_drift_is_named_at_once(project: Project) -> None:
    project.manifest("data: {type: file, state: directory, path: data, lifecycle: {ignore_drift: [moed]}}")
    said = project.run("plan")
    assert said.exit == 1 and "`ignore_drift` of `data` names `moed`, which is no field of a file" in said.err, said
    assert "did you mean `mode`?" in said.err
    project.manifest("words: {type: task, command: 'true', lifecycle: {ignore_drift: [outputs]}}")
    assert "`ignore_drift` is not supported yet" in project.run("plan").err


def test_by_policy_drift_is_mended_or_told_or_stops_the_run(project: Project) -> None:
    project.manifest(PAIR, "policy: {drift: report}\n").does("apply")
    (project.root / "srv/conf").chmod(0o600)
    said = project.run("apply")
    assert said.exit == 4 and "What drifted was left as it is" in said.out and "1 drifted, 1 unchanged" in said.out, said
    project.edit("drift: report", "drift: fail")
    said = project.run("apply")
    assert said.exit == 4, said
    assert "1 drifted, and `policy.drift` is fail: nothing was begun" in said.err and "mode: recorded 0640, found 0600" in said.err
    project.edit("drift: fail", "drift: heal").does("apply")
    assert (project.root / "srv/conf").stat().st_mode & 0o777 == 0o640


def test_the_output_of_a_task_that_drifted_is_left_by_policy_too(project: Project) -> None:
    project.file("in.txt", "b\na\n").manifest("""
        words: {type: task, command: sort in.txt > words.txt, inputs: [in.txt], outputs: [words.txt]}
    """, "policy: {drift: report}\n").does("apply")
    project.file("words.txt", "mine\n")
    assert project.run("apply").exit == 4
    project.holds("words.txt", "mine\n")


def test_notify_on_drift_is_told_how_much(project: Project) -> None:
    notify = 'policy: {notify: {on_drift: "echo {{machine}} {{drift_count}} > drifted"}}\n'
    project.manifest(PAIR, notify).does("apply").run("drift")
    assert not (project.root / "drifted").exists()
    (project.root / "srv/conf").chmod(0o600)
    assert project.run("drift").exit == 4
    assert (project.root / "drifted").read_text() == "localhost 1\n"


def test_drift_of_one_resource(project: Project) -> None:
    project.manifest(PAIR).does("apply")
    (project.root / "srv/conf").chmod(0o600)
    assert project.run("drift", "after").exit == 0
    finding = json.loads(project.run("drift", "conf", "--json").out)["findings"][0]
    words = ("resource", "machine", "field", "recorded", "found")
    assert [finding[word] for word in words] == ["conf", "localhost", "mode", "0640", "0600"]
    assert project.run("drift", "conf").exit == 4


def test_destroy_goes_backwards_asks_and_leaves_what_is_not_ours(project: Project) -> None:
    project.file("in.txt", "x\n").manifest("""
        data: {type: file, state: directory, path: data, mode: "0755"}
        inside: {type: file, path: data/inside, content: x, depends_on: [data]}
        words: {type: task, command: sort in.txt > words.txt, inputs: [in.txt], outputs: [words.txt]}
    """).does("apply").file("data/foreign", "not ours\n")
    said = project.run("destroy")
    assert said.exit == 1 and "without a terminal that needs --yes" in said.err, said
    assert (project.root / "data/inside").exists()
    said = project.run("destroy", answer="n")
    assert said.exit == 1 and said.err.index("- inside") < said.err.index("- data"), said
    said = project.run("destroy", answer="y")
    assert said.exit == 3 and "data stays: it holds foreign, which is not ours" in said.err, said
    assert said.err.index("inside  destroyed") < said.err.index("data    FAILED")
    assert not (project.root / "data/inside").exists() and (project.root / "words.txt").exists()
    (project.root / "data/foreign").unlink()
    assert project.run("destroy", "--yes").exit == 0
    assert not (project.root / "data").exists() and recorded(project) == []
    project.says("destroy", out="Nothing to destroy: nothing of it is recorded.")


def test_destroying_one_takes_what_needs_it_and_nothing_else(project: Project) -> None:
    project.manifest("""
        base: {type: file, path: srv/base, content: x}
        top: {type: file, path: srv/top, content: x, depends_on: [base]}
        other: {type: file, path: srv/other, content: x}
    """).does("apply")
    assert project.run("destroy", "--target", "base", "--yes").exit == 0
    assert sorted(path.name for path in (project.root / "srv").iterdir()) == ["other"] and recorded(project) == ["other"]


@pytest.mark.effect("any.lifecycle")
def test_what_may_never_be_destroyed_stops_all_of_it(project: Project) -> None:
    project.manifest("""
        kept: {type: file, path: srv/kept, content: x, lifecycle: {prevent_destroy: true}}
        other: {type: file, path: srv/other, content: x}
    """).does("apply")
    said = project.run("destroy", "--yes")
    assert said.exit == 1 and "`kept@localhost` may never be destroyed" in said.err, said
    assert (project.root / "srv/other").exists()
    project.manifest("other: {type: file, path: srv/other, content: x}")
    assert steps(project, "--prune")["kept"][0] == "hold"
    project.run("apply", "--prune", "--yes")
    assert (project.root / "srv/kept").exists() and recorded(project) == ["kept", "other"]


def test_prune_takes_away_what_was_made_and_is_declared_no_more(project: Project) -> None:
    project.manifest("""
        dir: {type: file, state: directory, path: srv/dir}
        inside: {type: file, path: srv/dir/inside, content: x, depends_on: [dir]}
        stays: {type: file, path: srv/stays, content: x}
    """).does("apply").manifest("stays: {type: file, path: srv/stays, content: x}")
    assert steps(project)["dir"] == ("forget", "no longer in the manifest; the file itself is kept")
    assert project.run("apply", "--prune").exit == 1
    said = project.run("apply", "--prune", "--yes")
    assert said.exit == 0 and "2 destroyed, 1 unchanged" in said.out, said
    assert [path.name for path in (project.root / "srv").iterdir()] == ["stays"]


def test_what_was_on_a_machine_that_is_declared_no_more_is_held(project: Project) -> None:
    machines = "machines: {{{name}: {{addr: localhost, workdir: there}}}}\n"
    project.manifest("one: {type: file, machine: here, path: one, content: x}", machines.format(name="here")).does("apply")
    project.manifest("two: {type: file, path: two, content: x}")
    action, reason = steps(project, "--prune")["one"]
    assert action == "hold" and "here cannot be asked" in reason
    said = project.run("apply", "--prune", "--yes")
    assert said.exit == 1 and (project.root / "there/one").exists() and (project.root / "two").exists(), said


def test_import_records_what_is_there_and_changes_nothing(project: Project) -> None:
    project.manifest(PAIR).file("srv/conf", "a=1\n")
    (project.root / "srv/conf").chmod(0o600)
    said = project.run("import", "file", "conf")
    assert said.exit == 0 and "conf@localhost: recorded as it is; declared otherwise: mode" in said.out, said
    assert (project.root / "srv/conf").stat().st_mode & 0o777 == 0o600
    assert "  localhost  conf      file  DAY TIME, found\n" in project.run("state", "list").out
    assert steps(project)["conf"] == ("update", "field mode 0600 -> 0640")
    for argv, why in (
        (("import", "file", "conf"), "it is recorded already"),
        (("import", "file", "after"), "there is none on localhost"),
        (("import", "task", "after"), "it is declared as a file, not as a task"),
    ):
        said = project.run(*argv)
        assert said.exit == 1 and why in said.err, said
    project.does("apply")


def test_provision_is_everything_but_the_tasks(project: Project) -> None:
    project.file("in.txt", "x\n").manifest("""
        data: {type: file, state: directory, path: data}
        words: {type: task, command: sort in.txt > data/words.txt, inputs: [in.txt], outputs: [data/words.txt], depends_on: [data]}
    """)
    said = project.run("provision", "plan")
    assert said.exit == 0 and "words" not in said.out and "localhost: answers" in said.err and "1 to converge, 0 that cannot" in said.err
    assert said.out.endswith("To do this: albor-pipeline provision apply manifests/albor.yaml\n"), said
    said = project.run("plan", "--target", "data", "--machine", "localhost", "--force")
    assert said.out.endswith("albor-pipeline apply manifests/albor.yaml --force --target data --machine localhost\n"), said
    assert project.run("provision", "apply").exit == 0
    assert (project.root / "data").is_dir() and not (project.root / "data/words.txt").exists()


def test_what_was_not_ours_is_asked_about_before_it_is_lost_and_a_mode_is_not(project: Project) -> None:
    project.manifest('note: {type: file, path: note, content: ours, mode: "0600"}').file("note", "theirs")
    said = project.run("apply")
    assert said.exit == 1 and "this would overwrite or destroy what is there: note" in said.err
    (project.root / "note").write_text("ours")
    assert project.run("apply").exit == 0
    (project.root / "note").write_text("edited by hand")
    assert project.run("apply").exit == 1
    assert project.run("apply", "--yes").exit == 0
    (project.root / "note").chmod(0o644)
    assert project.run("apply").exit == 0


@pytest.mark.effect("file.source")
def test_a_folder_of_the_project_is_kept_as_it_is_there_file_by_file(project: Project) -> None:
    project.file("src/a", "one\n").file("src/sub/b", "two\n")
    (project.root / "src/sub/b").chmod(0o755)
    (project.root / "src/link").symlink_to("a")
    project.manifest("tree: {type: file, state: directory, path: dst, source: src}").does("apply")
    dst = project.root / "dst"
    assert (dst / "a").read_text() == "one\n" and os.access(dst / "sub/b", os.X_OK) and str((dst / "link").readlink()) == "a"
    assert project.run("apply").out == "Nothing to do: 1 unchanged.\n"
    (dst / "sub/b").write_text("changed\n")
    (dst / "link").unlink()
    (dst / "foreign").write_text("theirs\n")
    said = project.run("drift")
    assert said.exit == 4 and "files.sub/b: recorded" in said.out and "links.link: recorded a, found nothing" in said.out, said
    project.does("apply", "--yes")
    assert (dst / "sub/b").read_text() == "two\n" and (dst / "foreign").exists()
    (dst / "foreign").unlink()
    assert project.run("destroy", "--yes").exit == 0 and not dst.exists()


@pytest.mark.effect("file.template")
def test_a_template_is_filled_in_and_what_is_wrong_in_it_is_told_where_it_is_named(project: Project) -> None:
    project.file("conf.in", "lr={{params.lr}}\nhost={{machine.self.hostname}}\n")
    project.manifest("conf: {type: file, path: conf, template: conf.in}", "params: {lr: 3e-4}\n").does("apply")
    project.holds("conf", "lr=3e-4\nhost=localhost\n")
    project.edit("3e-4", "1e-3").does("apply").holds("conf", "lr=1e-3\nhost=localhost\n")
    project.file("conf.in", "lr={{params.rate}}\n")
    said = project.run("plan")
    assert said.exit == 1 and "there is no param `rate`" in said.err, said
    project.edit("conf.in", "gone.in")
    assert "gone.in: no such file" in project.run("plan").err


@pytest.mark.parametrize("ups", ["first", "first, other"])
def test_a_machine_that_changes_before_its_turn_is_looked_at_again(project: Project, ups: str) -> None:
    project.manifest(f"""
        first: {{type: file, path: srv/first, content: x, post_apply: printf y > srv/second}}
        other: {{type: file, path: srv/other, content: x}}
        second: {{type: file, path: srv/second, content: "y", depends_on: [{ups}]}}
    """)
    assert steps(project)["second"] == ("create", "new")
    said = project.run("apply")
    assert said.exit == 0 and "second  adopted    already there" in said.err and "2 created, 1 adopted" in said.out, said


def test_a_secret_is_in_nothing_that_is_kept_and_its_digest_is_of_this_lineage_alone(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORJAR_SECRET_TOKEN", "hunter2-hunter2")
    project.manifest('conf: {type: file, path: srv/conf, content: "token={{secrets.token}}", mode: "0600"}').does("apply")
    project.holds("srv/conf", "token=hunter2-hunter2")
    plain = digest_bytes(b"token=hunter2-hunter2")
    kept = [path for folder in ("state", ".albor") for path in (project.root / folder).rglob("*") if path.is_file()]
    assert kept and not [path for path in kept if b"hunter2" in path.read_bytes() or plain[:16].encode() in path.read_bytes()]
    assert project.run("apply").out == "Nothing to do: 1 unchanged.\n"
    monkeypatch.setenv("FORJAR_SECRET_TOKEN", "changed")
    assert steps(project)["conf"][0] == "update"
    said = project.run("apply", "--yes")
    assert said.exit == 0 and "changed" not in said.out + said.err.replace("unchanged", ""), said


def test_a_machine_is_asked_once_and_told_of_each_thing_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    queue = AgentClient.queue

    def noted(client: AgentClient, verb: str, **args: Any) -> int:
        asked.append(verb)
        return queue(client, verb, **args)

    monkeypatch.setattr(AgentClient, "queue", noted)
    folders = "".join(f"d{n}: {{type: file, state: directory, path: srv/d{n}, mode: '0755'}}\n" for n in range(20))
    files = "".join(f"f{n}: {{type: file, path: srv/d{n % 20}/f{n}, content: x, depends_on: [d{n % 20}]}}\n" for n in range(100))
    project.manifest(folders + files).does("apply")
    assert (asked.count("probe"), asked.count("converge")) == (1, 120)
    asked.clear()
    assert project.run("apply").out == "Nothing to do: 120 unchanged.\n"
    assert asked.count("probe") == 1 and "converge" not in asked


def test_what_was_there_before_is_not_ours_to_take_away(project: Project) -> None:
    project.manifest("""
        found: {type: file, state: directory, path: found, mode: "0755"}
        changed: {type: file, state: directory, path: changed, mode: "0700"}
        made: {type: file, state: directory, path: made, mode: "0700"}
    """)
    for name in ("found", "changed"):
        (project.root / name).mkdir(mode=0o755)
    project.does("apply").edit('path: changed, mode: "0700"', 'path: changed, mode: "0750"').does("apply")
    said = project.run("destroy", "--yes")
    assert said.exit == 0 and "the file was there before, and stays" in said.err and "1 destroyed" in said.out, said
    assert [(project.root / name).exists() for name in ("found", "changed", "made")] == [True, True, False]
    project.does("apply").manifest("other: {type: file, path: other, content: x}")
    assert steps(project, "--prune")["found"] == ("forget", "no longer in the manifest; the file was there before, and stays")
