"""What every resource takes, and what machines, the policy and tasks take besides: values, forms, and what is said of a mistake."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from support_report import HEAD, read, report, resource

TASK = "command: make"
TIME = "a time above zero such as 90 (seconds), 10m or 1h30m"
NUMBER = "a number, not negative, written without quotes"
NO_FIELD = "given the `field` to look at, since it parses JSON"
LONG = "x" * 1_001
NO_LONG = "a regular expression of at most 1000 characters"
NO_REGEX = "a regular expression (missing ), unterminated subpattern at position 0)"
VARIABLES = "a mapping of names to texts, a name neither empty nor with `=`, and no NUL in either"
MOVE = "`SOURCE:DESTINATION`, or a mapping of `artifact`, `to` and `from`"


def machine(fields: str, name: str = "m") -> str:
    return f"{HEAD}machines:\n  {name}: {{{fields}}}\n"


def policy(fields: str) -> str:
    return f"{HEAD}policy: {{{fields}}}\n"


def test_a_resource_keeps_what_selects_it(tmp_path: Path) -> None:
    found = read(tmp_path, resource("file", "path: /x, tags: [a, b], resource_group: net, sudo: true")).resources["it"]
    assert (found.tags, found.group, found.sudo) == (("a", "b"), "net", True)


@pytest.mark.effect("any.arch")
def test_a_resource_is_only_on_machines_of_its_architecture(tmp_path: Path) -> None:
    text = f"{HEAD}machines:\n  a: {{addr: a, arch: aarch64}}\n  b: {{addr: b}}\nresources:\n"
    text += '  t: {type: task, machine: [a, b], arch: [aarch64, riscv64], command: "{{machine.self.arch}}"}\n'
    text += "  none: {type: task, machine: b, arch: [s390x], command: x}\n"
    text += "  after: {type: task, machine: b, command: x, depends_on: [none]}\n"
    found = read(tmp_path, text).resources
    assert (found["t"].machines, found["t"].fields.command) == (("a",), "aarch64")
    assert "none" not in found and found["after"].depends_on == ()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ("arch: [i386]", "`arch.0` of task `it` cannot be `i386` [i386]"),
        ("arch: x86_64", "`arch` of task `it` must be a list, not `x86_64` [x86_64]"),
        ("sudo: yes", "`sudo` of task `it` must be true or false, not `yes` [yes]"),
        ("triggers: [them]", "`it` is triggered by `them`, which is not declared [them]"),
        ("restart_on: [iit]", "`it` restarts on `iit`, which is not declared [iit] did you mean `it`, declared at line 4?"),
        ("triggers: [it]", "`it` refers to itself [it]"),
        ("lifecycle: {ignore: [a]}", "`lifecycle` of task `it` has no key `ignore` [ignore] did you mean `ignore_drift`?"),
        ("lifecycle: {ignore_drift: all}", "`lifecycle.ignore_drift` of task `it` must be a list, not `all` [all]"),
        ("resource_grup: x", "task `it` has no key `resource_grup` [resource_grup] did you mean `resource_group`?"),
    ],
)  # fmt: skip
def test_a_mistake_in_what_every_resource_takes_is_told(tmp_path: Path, fields: str, says: str) -> None:
    assert report(tmp_path, resource("task", f"{TASK}, {fields}")) == [says]


def test_a_denied_path_is_an_error_however_it_is_written(tmp_path: Path) -> None:
    text = f"{HEAD}params: {{dir: /etc}}\npolicy: {{deny_paths: [/etc/shadow, /srv/**, /opt/*/bin]}}\nresources:\n"
    text += '  a: {type: file, path: "{{params.dir}}/shadow"}\n  b: {type: file, path: /etc/x/../shadow}\n'
    text += "  c: {type: mount, source: x, path: /srv/a/b}\n  d: {type: file, path: /opt/x/bin}\n"
    text += "  e: {type: file, path: /etc/shadow-}\n  f: {type: file, path: /opt/x/y/bin}\n"
    text += "  h: {type: task, command: x, outputs: [y, /srv/o]}\n"
    text += "  g: {type: build, build_machine: localhost, command: x, source: y, target: /srv/z}\n"
    assert [line for line in report(tmp_path, text) if "the policy denies" in line] == [
        '`a` writes `/etc/shadow`, which the policy denies: `/etc/shadow` ["{{params.dir}}/shadow"]',
        "`b` writes `/etc/x/../shadow`, which the policy denies: `/etc/shadow` [/etc/x/../shadow]",
        "`c` writes `/srv/a/b`, which the policy denies: `/srv/**` [/srv/a/b]",
        "`d` writes `/opt/x/bin`, which the policy denies: `/opt/*/bin` [/opt/x/bin]",
        "`h` writes `/srv/o`, which the policy denies: `/srv/**` [/srv/o]",
        "`g` writes `/srv/z`, which the policy denies: `/srv/**` [/srv/z]",
    ]


@pytest.mark.parametrize(
    ("user", "fields", "warned"),
    [
        ("user: ann", "path: /etc/motd", True),
        ("user: ann", "path: /home/../etc/motd", True),
        ("user: ann", "path: x, owner: root", True),
        ("user: ann", "path: /etc/motd, sudo: true", False),
        ("user: ann", "path: /srv/x", False),
        ("user: root", "path: /etc/motd", False),
        ("port: 22", "path: /etc/motd", False),
    ],
)
def test_a_file_of_root_that_its_user_may_not_write_is_a_warning(
    tmp_path: Path, user: str, fields: str, warned: bool
) -> None:
    text = machine(f"addr: h, {user}") + f"resources:\n  it: {{type: file, machine: m, {fields}}}\n"
    says = report(tmp_path, text)
    assert bool(says) == warned
    assert all("`ann` of `m` may not write it" in line for line in says)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ("addr: h, transport: telnet", "`transport` of machine `m` cannot be `telnet` [telnet]"),
        ("addr: container", "machine `m` must be given a block `container`, since that is how it is reached [m]"),
        ("addr: h, transport: pepita", "machine `m` must be given a block `pepita`, since that is how it is reached [m]"),
        ("addr: container, container: {runtime: lxc, image: i}", "`container.runtime` of machine `m` cannot be `lxc` [lxc]"),
        ("addr: container, container: {name: x}", "`container` of machine `m` must be given an `image`, or `ephemeral: false` [{name: x}]"),
        ("addr: h, container: {image: i}", "machine `m` must be given `transport: container`, since it has a block `container` [m]"),
        (
            "addr: container, port: 22, container: {image: i}",
            "machine `m` must be without `port`: a container is reached without SSH [m]",
        ),
        (
            "addr: container, container: {image: i, name: -x}",
            "`container.name` of machine `m` must be a name of letters, digits, `-`, `_` and `.`, a letter or a digit first, not `-x` [-x]",
        ),
        ("addr: pepita, pepita: {cpus: 2}", "`pepita` of machine `m` needs `rootfs` [pepita]"),
        ("addr: pepita, pepita: {rootfs: /r, network: lan}", "`pepita.network` of machine `m` cannot be `lan` [lan]"),
        ("addr: h, cost: low", "`cost` of machine `m` must be a whole number, not `low` [low]"),
        ("addr: h, ssh_kye: k", "machine `m` has no key `ssh_kye` [ssh_kye] did you mean `ssh_key`?"),
        ("addr: h, allowed_operators: ann", "`allowed_operators` of machine `m` must be a list, not `ann` [ann]"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_machine_is_told(tmp_path: Path, fields: str, says: str) -> None:
    assert report(tmp_path, machine(fields)) == [says]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ("serial: 0", "`serial` of the policy must be a whole number from 1, not `0` [0]"),
        ("max_parallel: 0", "`max_parallel` of the policy must be a whole number from 1, not `0` [0]"),
        ("max_fail_percentage: 101", "`max_fail_percentage` of the policy must be a whole number from 0 to 100, not `101` [101]"),
        ("tripwire: on", "`tripwire` of the policy must be true or false, not `on` [on]"),
        ("security_gate: hgh", "`security_gate` of the policy cannot be `hgh` [hgh] did you mean `high`?"),
        ("convergence_budget: soon", f"`convergence_budget` of the policy must be {TIME}, not `soon` [soon]"),
        ("logs: {keep_run: 1}", "`logs` of the policy has no key `keep_run` [keep_run] did you mean `keep_runs`?"),
        ("notify: {on_drifts: x}", "`notify` of the policy has no key `on_drifts` [on_drifts] did you mean `on_drift`?"),
        ("lock_fil: true", "the policy has no key `lock_fil` [lock_fil] did you mean `lock_file`?"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_policy_is_told(tmp_path: Path, fields: str, says: str) -> None:
    assert report(tmp_path, policy(fields)) == [says]


TASKS: dict[str, tuple[str, Any]] = {
    "task_inputs": ("[src/*.py]", None),
    "task_mode": ("service", "service"),
    "gpu_device": ("0", 0),
    "restart": ("on_failure", "on_failure"),
    "restart_delay": ("10", 10.0),
    "keep": ("true", True),
}


@pytest.mark.parametrize("field", TASKS)
def test_a_task_takes_every_field_of_the_format(tmp_path: Path, field: str) -> None:
    written, value = TASKS[field]
    fields = read(tmp_path, resource("task", f"{TASK}, {field}: {written}")).resources["it"].fields
    assert field == "task_inputs" or getattr(fields, field) == value


def test_the_blocks_of_a_task_get_their_types_and_defaults(tmp_path: Path) -> None:
    text = f"""{HEAD}resources:
  it:
    type: task
    command: serve
    task_inputs: [data/*.csv]
    health_check: {{command: curl x, interval: 30s, timeout: "5"}}
    restart_policy: {{max_restarts: 2, backoff_base_secs: 0.5}}
    quality_gate: {{parse: json, field: accuracy, min: 0.85, on_fail: warn}}
    scatter: ["data/a:/srv/a", {{from: localhost, artifact: data/b, to: box}}]
"""
    task = read(tmp_path, text).resources["it"].fields
    assert task.inputs == ("data/*.csv",)
    assert (task.health_check.interval, task.health_check.timeout, task.health_check.retries) == (30.0, 5.0, 3)
    policy = task.restart_policy
    assert (policy.max_restarts, policy.backoff_base_secs, policy.backoff_max_secs, policy.reset_after_secs) == (2, 0.5, 60.0, 300)
    assert (task.quality_gate.min, task.quality_gate.on_fail) == (0.85, "warn")
    moves = [(move.from_, move.artifact, move.to) for move in task.scatter]
    assert moves == [(None, "data/a", "/srv/a"), ("localhost", "data/b", "box")]


def test_a_pipeline_needs_no_command(tmp_path: Path) -> None:
    text = resource("task", "task_mode: pipeline, stages: [{name: a, command: '{{params.x}}', gate: true}, {name: b}]")
    stages = read(tmp_path, text.replace("resources", "params: {x: make}\nresources")).resources["it"].fields.stages
    assert [(stage.name, stage.command, stage.gate) for stage in stages] == [("a", "make", True), ("b", None, False)]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ("task_mode: bach", "`task_mode` of task `it` cannot be `bach` [bach] did you mean `batch`?"),
        ("task_mode: pipeline", "task `it` must be given its `stages`, since its mode is pipeline [it]"),
        ("stages: [{command: x}]", "`stages.0` of task `it` needs `name` [{command: x}]"),
        ("stages: [{name: a, gates: true}]", "`stages.0` of task `it` has no key `gates` [gates] did you mean `gate`?"),
        ("health_check: {interval: 3s}", "`health_check` of task `it` needs `command` [health_check]"),
        ("health_check: {command: x, interval: long}", f"`health_check.interval` of task `it` must be {TIME}, not `long` [long]"),
        ("quality_gate: {min: high}", f"`quality_gate.min` of task `it` must be {NUMBER}, not `high` [high]"),
        ("quality_gate: {parse: json}", f"`quality_gate` of task `it` must be {NO_FIELD} [{{parse: json}}]"),
        ("quality_gate: {regex: (}", f"`quality_gate.regex` of task `it` must be {NO_REGEX}, not `(` [(]"),
        (f"quality_gate: {{regex: {LONG}}}", f"`quality_gate.regex` of task `it` must be {NO_LONG}, not `{'x' * 57}...` [{LONG}]"),
        ("quality_gate: {on_fail: blok}", "`quality_gate.on_fail` of task `it` cannot be `blok` [blok] did you mean `block`?"),
        ("restart_policy: {restarts: 6}", "`restart_policy` of task `it` has no key `restarts` [restarts]"),
        ("scatter: [nowhere]", f"`scatter.0` of task `it` must be {MOVE}, not `nowhere` [nowhere]"),
        ("gather: [{from: bx, artifact: a, to: b}]", "`gather` of `it` names machine `bx`, which is not declared [bx]"),
        ("gather: [{form: x, artifact: a, to: b}]", "`gather.0` of task `it` has no key `form` [form] did you mean `from`?"),
        ("ranks_on: [localhost, bx]", "`ranks_on` of `it` names machine `bx`, which is not declared [bx]"),
        ("gpu_device: gpu0", "`gpu_device` of task `it` must be a whole number, not `gpu0` [gpu0]"),
        ("retry: {attempts: 0}", "`retry.attempts` of task `it` must be a whole number from 1, not `0` [0]"),
        ("env: {A=B: c}", f"`env` of task `it` must be {VARIABLES} [{{A=B: c}}]"),
        ("env: {'': c}", f"`env` of task `it` must be {VARIABLES} [{{'': c}}]"),
        ('env: {A: "\\0"}', f'`env` of task `it` must be {VARIABLES} [{{A: "\\0"}}]'),
        ("state: absent", "`state` of task `it` cannot be `absent` [absent]"),
        ("task_inputs: [a], inputs: [b]", "task `it` has both `inputs` and `task_inputs`, two spellings of one key [task_inputs]"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_task_is_told(tmp_path: Path, fields: str, says: str) -> None:
    assert report(tmp_path, resource("task", f"{TASK}, {fields}")) == [says]


def test_a_stage_takes_no_command_to_resume_it(tmp_path: Path) -> None:
    (says,) = report(tmp_path, resource("task", "stage: pack, config: c.yaml, resume_command: x"))
    assert says == "task `it` must be a command to have a `resume_command`; a stage resumes by itself [it]"


@pytest.mark.parametrize("expression", ["a{9999999999}", "(" * 499 + ")" * 499])
def test_an_expression_that_cannot_be_read_is_told_and_no_traceback(tmp_path: Path, expression: str) -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)  # as it is in our processes; other tests import what raises it
    try:
        (says,) = report(tmp_path, resource("task", f"{TASK}, quality_gate: {{regex: '{expression}'}}"))
    finally:
        sys.setrecursionlimit(before)
    assert says.startswith("`quality_gate.regex` of task `it` must be a regular expression (")


RECIPE = """
recipe: {name: web, version: 1, inputs: {}}
resources:
  any: {type: task, command: x}
  arm: {type: task, command: y, arch: [aarch64]}
"""


def of_recipe(folder: Path, fields: str) -> str:
    (folder / "recipes").mkdir()
    (folder / "recipes" / "web.yaml").write_text(RECIPE)
    return f"{HEAD}machines: {{m: {{addr: localhost}}}}\nresources:\n  it: {{type: recipe, recipe: web, machine: m{fields}}}\n"


def test_a_recipe_gives_its_group_to_what_it_holds_and_leaves_out_what_is_for_other_machines(tmp_path: Path) -> None:
    found = read(tmp_path, of_recipe(tmp_path, ", resource_group: net, path: null")).resources
    assert {name: resource.group for name, resource in found.items()} == {"it/any": "net"}


def test_what_a_recipe_cannot_pass_on_is_refused(tmp_path: Path) -> None:
    says = report(tmp_path, of_recipe(tmp_path, ", sudo: true, arch: [x86_64]"))
    assert sorted(says) == ["`arch` is not supported yet [arch] in recipe `it`", "`sudo` is not supported yet [sudo] in recipe `it`"]
