"""What the format has and this version cannot do: `validate` accepts it, `plan` and `apply` refuse it by name before anything runs."""

from __future__ import annotations

import pytest

from albor_pipeline.manifest import later
from albor_pipeline.manifest.sections import CommonFields, MachineFields, PolicyFields
from albor_pipeline.resources.registry import KINDS
from albor_pipeline.resources.task import Task
from cli.builder import Project

MIXED = """
tools:
  type: pepita
  name: jail
words:
  type: task
  command: "true"
  keep: true
  task_mode: batch
plain:
  type: task
  command: "true"
  resource_group: simple
  tags: [easy]
"""
HEAD = "policy: { serial: 3, tripwire: true }\n"
POLICY = {
    "tripwire": "false", "lock_file": "false", "serial": "2", "max_fail_percentage": "10",
    "convergence_budget": "60", "snapshot_generations": "3", "security_gate": "high", "logs": "{keep_runs: 3}",
}  # fmt: skip
MACHINE = {
    "pepita": "{rootfs: /srv/root}", "cost": "5",
    "allowed_operators": "[ann]", "options": "{ServerAliveInterval: 5}", "become": "root",
}  # fmt: skip
RESOURCE = {"store": "true"}
OF_TYPE = {
    "docker": "name: x, image: debian", "gpu": "driver_version: '550'", "mount": "source: /dev/sdz1, path: /mnt",
    "network": "port: 22", "package": "provider: apt, packages: [nothing-of-that-name]", "python_env": "requirements: [six]",
    "task": "command: x",
}  # fmt: skip
TASK_INSIDE = {"lifecycle.ignore_drift": "{ignore_drift: [outputs]}"}
TASK = {
    "pre_apply": "ls", "post_apply": "ls", "sudo": "true",
    "health_check": "{command: ls}", "restart": "always", "restart_delay": "3", "restart_policy": "{max_restarts: 1}",
    "scatter": "['a:b']", "gather": "['a:b']", "ranks_on": "[localhost]", "contracts": "[losses]", "keep": "true",
}  # fmt: skip


def test_validate_accepts_what_plan_refuses_with_every_place(project: Project) -> None:
    project.manifest(MIXED, HEAD).says("validate", out="OK: tale (1 machine, 3 resources)")
    said = """
        error[not-supported]: `serial` is not supported yet
         --> manifests/albor.yaml:3:11
          |
        2 | name: tale
        3 | policy: {{ serial: 3, tripwire: true }}
          |           ^^^^^^ in the policy

        error[not-supported]: type `pepita` is read and never brought about here
         --> manifests/albor.yaml:6:11
          |
        5 |   tools:
        6 |     type: pepita
          |           ^^^^^^
          = use `type: docker` for a place of its own, or a task under `systemd-run -p MemoryMax=... -p AllowedCPUs=...`

        error[not-supported]: `keep` is not supported yet
          --> manifests/albor.yaml:11:5
           |
        10 |     command: "true"
        11 |     keep: true
           |     ^^^^ in task `words`
           = take out what is not supported, or choose resources that do not need it: --target, --machine, --tag, --group

        3 errors. Nothing was {}.
    """
    project.says("plan", exit=1, err=said.format("planned")).says("apply", exit=1, err=said.format("done"))


@pytest.mark.parametrize("choice", [["--target", "plain"], ["--group", "simple"], ["--tag", "easy"]])
@pytest.mark.effect("any.tags", "any.resource_group")
def test_what_the_chosen_resources_do_not_need_is_no_obstacle(project: Project, choice: list[str]) -> None:
    project.manifest(MIXED)
    assert project.run("plan", "--target", "words").exit == project.run("apply", "--target", "words").exit == 1
    assert "1 to run" in project.run("plan", *choice).out
    project.does("apply", *choice)


def test_graph_and_status_show_every_type(project: Project) -> None:
    project.manifest(MIXED)
    assert "tools" in project.run("graph").out
    assert "pepita" in project.run("status").out


def test_every_key_without_effect_has_its_row_here() -> None:
    assert set(POLICY) == later.POLICY
    assert set(MACHINE) == later.MACHINE
    assert set(RESOURCE) == later.RESOURCE & set(CommonFields.model_fields)
    assert set(TASK) == set(later.TASK)
    assert set(TASK_INSIDE) == set(later.TASK_INSIDE)
    assert set(KINDS) >= later.TYPES
    declared = {*PolicyFields.model_fields, *MachineFields.model_fields, *Task.model_fields, *CommonFields.model_fields}
    assert {key.partition(".")[0] for key in (*POLICY, *MACHINE, *RESOURCE, *TASK)} <= declared


def refused(project: Project, name: str, instead: str = "") -> None:
    assert project.run("validate").exit == 0
    said = project.run("plan")
    assert (said.exit, said.out) == (1, "")
    text = f"`{name}` is read and never brought about here" if instead else f"`{name}` is not supported yet"
    assert said.err.startswith(f"error[not-supported]: {text}\n --> manifests/albor.yaml:")
    assert said.err.count("error[") == 1 and (f"\n  = {instead}\n" in said.err or not instead)


@pytest.mark.parametrize("key", POLICY)
def test_a_key_of_the_policy_is_refused_by_name(project: Project, key: str) -> None:
    name = key.partition(".")[0]
    refused(project.manifest("a: {type: task, command: x}", f"policy: {{{name}: {POLICY[key]}}}\n"), key.rpartition(".")[2])


@pytest.mark.parametrize("key", MACHINE)
def test_a_key_of_a_machine_is_refused_by_name(project: Project, key: str) -> None:
    machine = f"machines: {{m: {{addr: localhost, {key}: {MACHINE[key]}}}}}\n"
    refused(project.manifest("a: {type: task, machine: m, command: x}", machine), key)


@pytest.mark.parametrize("key", [*TASK_INSIDE, *TASK])
def test_a_key_of_a_task_is_refused_by_name(project: Project, key: str) -> None:
    name, value = key.partition(".")[0], {**TASK_INSIDE, **TASK}[key]
    refused(project.manifest(f"a: {{type: task, command: x, {name}: {value}}}"), key.rpartition(".")[2], later.TASK.get(key, ""))


@pytest.mark.parametrize("mode", later.MODES)
def test_a_mode_that_nothing_runs_in_is_refused_with_the_way_out(project: Project, mode: str) -> None:
    refused(project.manifest(f"a: {{type: task, command: x, task_mode: {mode}}}"), f"task_mode: {mode}", later.MODES[mode])


@pytest.mark.parametrize("key", RESOURCE)
@pytest.mark.effect("any.store")
def test_a_key_of_what_is_no_task_is_refused_by_name(project: Project, key: str) -> None:
    refused(project.manifest(f"a: {{type: file, path: x, {key}: {RESOURCE[key]}}}"), key)


@pytest.mark.parametrize("kind", later.OLD_FIRST)
def test_the_old_one_is_not_said_to_stay_where_it_goes_first(project: Project, kind: str) -> None:
    project.manifest(f"a: {{type: {kind}, {OF_TYPE[kind]}, lifecycle: {{create_before_destroy: true}}}}")
    assert project.run("validate").exit == 0
    said = project.run("plan")
    assert said.exit == 1 and said.err.startswith(
        "error[not-supported]: `create_before_destroy` is read and never brought about here\n --> manifests/albor.yaml:"
    ), said
    assert f"\n  = {later.OLD_FIRST[kind]}\n" in said.err and said.err.count("error[") == 1
    assert "1 to" in project.edit("create_before_destroy: true", "create_before_destroy: false").run("plan").out


def test_a_task_is_done_again_by_its_trigger_and_by_nothing_else(project: Project) -> None:
    project.manifest("""
        conf: {type: file, path: conf, content: one}
        work: {type: task, command: echo ran >> ran, triggers: [conf]}
    """).does("apply").does("apply").holds("ran", "ran\n")
    project.edit("content: one", "content: two").does("apply").holds("ran", "ran\nran\n").does("apply").holds("ran", "ran\nran\n")


def test_a_key_that_has_its_default_asks_for_nothing(project: Project) -> None:
    head = "policy: {tripwire: true, lock_file: true, ssh_retries: 1, logs: {keep_runs: 10}, notify: {on_drift: }}\n"
    head += "machines: {m: {addr: localhost, cost: 0, allowed_operators: []}}\n"
    common = "sudo: false, store: false, lifecycle: {prevent_destroy: false}, triggers: [], pre_apply: null"
    project.manifest(f"a: {{type: task, machine: m, command: 'true', task_mode: batch, keep: false, {common}}}", head)
    assert "1 to run" in project.run("plan").out


def test_a_machine_that_nothing_is_planned_on_is_no_obstacle(project: Project) -> None:
    project.manifest("a: {type: task, command: 'true'}", "machines: {far: {addr: 10.0.0.9, cost: 5}}\n")
    assert "1 to run" in project.run("plan").out


def test_a_resource_that_became_another_type_is_no_traceback_in_drift(project: Project) -> None:
    project.manifest("a: {type: file, path: a.txt, content: x}").does("apply")
    said = project.manifest("a: {type: pepita, name: jail}").run("drift")
    assert said.exit == 1 and said.err.startswith("error[not-supported]: type `pepita` is read and never brought about here\n")
