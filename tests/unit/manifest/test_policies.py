"""Policy rules as gates: each type of rule, what it finds, where it points, and rules that cannot work."""

from __future__ import annotations

import pytest
from support_manifest import Folder, block

RESOURCES = """
resources:
  a: {type: task, command: run, outputs: [a1, a2, a3], tags: [big], timeout: 60}
  b: {type: task, command: run, description: told, cache: false}
  f: {type: file, path: /etc/x, mode: 0777}
"""


def test_a_broken_rule_blocks_and_names_field_rule_and_way_out(folder: Folder) -> None:
    folder.manifest(
        "policies:\n  - type: deny\n    id: NO-777\n    message: world-writable files are not allowed\n    resource_type: file\n"
        "    condition_field: mode\n    condition_value: 0777\n    remediation: use 0644\n"
        "    compliance: [{framework: CIS, control: 6.1.10}]\n" + RESOURCES
    )
    assert folder.says() == block("""
        error[policy-deny]: world-writable files are not allowed: `f` has `mode: 0777`
          --> m.yaml:16:39
           |
        15 |   b: {type: task, command: run, description: told, cache: false}
        16 |   f: {type: file, path: /etc/x, mode: 0777}
           |                                       ^^^^
           = the rule NO-777 is at m.yaml:4:5
           = use 0644
           = CIS 6.1.10
    """)


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ("type: require, resource_type: task, field: description", ["`a` has no `description`"]),
        ("type: require, tag: big, field: timeout", []),
        ("type: assert, resource_type: task, condition_field: cache, condition_value: true", ["`b` has `cache: false`, not `true`"]),
        ("type: assert, resource_type: task, tag: big, condition_field: timeout, condition_value: 60", []),
        ("type: deny, resource_type: file", ["`f` is one of the resources of type file"]),
        ("type: deny, field: mode", ["`f` has `mode`"]),
        ("type: deny, condition_field: tags, condition_value: big", ["`a` has `tags: big`"]),
        ("type: deny, condition_field: timeout, condition_value: 1m", ["`a` has `timeout: 1m`"]),
        ("type: deny, condition_field: outputs, condition_value: a2", ["`a` has `outputs: a2`"]),
        ("type: limit, severity: error, field: outputs, max_count: 2", ["`a` has 3 in `outputs`, at most 2 allowed"]),
        ("type: limit, severity: error, field: output_artifacts, resource_type: task, min_count: 1",
         ["`b` has 0 in `output_artifacts`, at least 1 wanted"]),
        ("type: limit, severity: error, max_count: 3, min_count: 3", []),
        ("type: limit, severity: error, max_count: 2", ["3 resources, at most 2 allowed"]),
        ("type: limit, severity: error, tag: big, min_count: 2, max_count: 4", ["1 resources with the tag big, 2 to 4 allowed"]),
        ("type: warn, severity: error, condition_field: type, condition_value: file", ["`f` has `type: file`"]),
    ],
)  # fmt: skip
def test_each_type_of_rule_finds_what_it_is_for(folder: Folder, rule: str, found: list[str]) -> None:
    folder.manifest(f"policies:\n  - {{message: mind, {rule}}}\n{RESOURCES}")
    if not found:
        assert folder.load().warnings == ()
        return
    text = folder.says()
    assert text.count("error[policy-") == len(found) and all(f"mind: {item}\n" in text for item in found), text


def test_a_rule_judges_the_fields_of_every_machine(folder: Folder) -> None:
    folder.manifest(
        "policies: [{type: deny, message: mind, condition_field: path, condition_value: b.txt}]\n"
        "machines: {a: {addr: localhost, workdir: a}, b: {addr: localhost, workdir: b}}\n"
        "resources:\n  f: {type: file, machine: [a, b], path: '{{machine.self.name}}.txt'}\n"
    )
    assert folder.says().count("mind: `f` has `path: b.txt`\n") == 1


@pytest.mark.parametrize(
    ("rule", "keys"),
    [
        ("type: require, field: type, condition_field: mode, condition_value: 0777", ["condition_field", "condition_value"]),
        ("type: assert, field: mode, condition_field: cache, condition_value: true", ["field"]),
        ("type: deny, field: owner, condition_field: mode, condition_value: 0700", ["field"]),
        ("type: limit, max_count: 9, condition_field: mode, condition_value: 0777", ["condition_field", "condition_value"]),
        ("type: warn, max_count: 9, min_count: 1, tag: none", ["max_count", "min_count"]),
    ],
)
def test_a_key_that_a_rule_of_its_type_does_not_look_at_is_a_warning(folder: Folder, rule: str, keys: list[str]) -> None:
    folder.manifest(f"policies:\n  - {{message: mind, severity: warning, {rule}}}\n{RESOURCES}")
    found = folder.warns()
    assert found.count("warning[no-effect]") == len(keys), found
    assert all(f"`{key}` has no effect on policy rule 1, because it is of type" in found for key in keys), found


@pytest.mark.parametrize(
    "rule", ["type: warn", "type: limit, max_count: 0, resource_type: task", "type: deny, severity: info"]
)
def test_a_rule_that_warns_blocks_nothing(folder: Folder, rule: str) -> None:
    folder.manifest(f"policies:\n  - {{message: mind, {rule}}}\n{RESOURCES}")
    assert "warning[policy-" in folder.warns()


@pytest.mark.parametrize(
    ("rule", "message", "column"),
    [
        ("type: forbid, message: m", "`type` of policy rule 1 cannot be `forbid`", 12),
        ("type: deny", "policy rule 1 needs `message`", 6),
        ("type: require, message: m", "needs `field`, because it is of type `require`", 6),
        ("type: limit, message: m", "policy rule 1 needs `max_count` or `min_count`", 6),
        ("type: deny, message: m, condition_field: mode", "takes `condition_field` and `condition_value` together", 6),
        ("type: deny, message: m, resource_type: fil", "there is no type `fil`", 45),
        ("type: require, message: m, field: ownr", "no resource type has a field `ownr`", 40),
        ("type: require, message: m, resource_type: file, field: command", "a file has no field `command`", 61),
        ("type: deny, message: m, fild: x", "policy rule 1 has no key `fild`", 30),
    ],
)
def test_a_rule_that_could_never_match_is_refused(folder: Folder, rule: str, message: str, column: int) -> None:
    folder.manifest(f"policies:\n  - {{{rule}}}\n{RESOURCES}")
    found = folder.says()
    assert message in found and f"--> m.yaml:4:{column}\n" in found and found.count("error[") == 1, found


def test_rules_judge_the_resources_of_recipes_and_copies(folder: Folder) -> None:
    folder.file("recipes/r.yaml", "recipe: {name: r}\nresources:\n  t: {type: task, command: x}\n")
    folder.manifest(
        "policies: [{type: require, message: say why, field: description, resource_type: task}]\n"
        "resources:\n  i: {type: recipe, recipe: r}\n  c: {type: task, command: x, count: 2}\n"
    )
    found = folder.says()
    assert "say why: `i/t` has no `description`" in found and "--> recipes/r.yaml:3:3" in found
    assert "say why: `c-0`" in found and "say why: `c-1`" in found
