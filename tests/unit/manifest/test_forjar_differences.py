"""Where a manifest of forjar means something else here, and no other test says so: each behind a line of docs/forjar.md."""

from __future__ import annotations

import pytest
from support_manifest import HEAD, Folder

TASK = "resources:\n  t: {type: task, command: x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{TASK}, stages: [{{name: a, comand: x}}]}}\n", "`stages.0` of task `t` has no key `comand`"),
        (f"{TASK}, quality_gate: {{on_fial: warn}}}}\n", "`quality_gate` of task `t` has no key `on_fial`"),
        (f"{TASK}, health_check: {{command: x, intervall: 1s}}}}\n", "`health_check` of task `t` has no key `intervall`"),
        (f"{TASK}, restart_policy: {{max_restart: 1}}}}\n", "`restart_policy` of task `t` has no key `max_restart`"),
        ("environments: {prod: {parms: {}}}\n", "environment `prod` has no key `parms`"),
        ("secrets: {provder: env}\n", "`secrets` has no key `provder`"),
    ],
)
def test_a_mistyped_key_is_refused_in_every_block(folder: Folder, text: str, message: str) -> None:
    found = folder.manifest(text).says()
    assert message in found and "did you mean" in found and found.count("error[") == 1, found


def test_a_list_or_a_mapping_among_the_params_is_put_in_as_json(folder: Folder) -> None:
    folder.manifest("params: {l: [1, a, true], m: {b: ~}}\nresources: {t: {type: task, command: '{{params.l}} {{params.m}}'}}\n")
    assert folder.load().resources["t"].fields.command == '[1, "a", true] {"b": null}'


@pytest.mark.parametrize("fields", ["type: github_release, repo: a/b, binary: b", "type: wasm_bundle, path: /srv/x.wasm"])
def test_a_rule_may_be_for_any_type(folder: Folder, fields: str) -> None:
    kind = fields.split(",")[0].removeprefix("type: ")
    folder.manifest(f"policies: [{{type: deny, resource_type: {kind}, message: none of these}}]\nresources: {{it: {{{fields}}}}}\n")
    assert f"none of these: `it` is one of the resources of type {kind}" in folder.says()


def test_resources_are_worked_on_side_by_side_unless_the_policy_forbids_it(folder: Folder) -> None:
    assert folder.manifest("policy: {}\n").load().policy.max_parallel is None
    for key in ("parallel_machines", "parallel_resources"):
        assert folder.manifest(f"policy: {{{key}: false}}\n").load().policy.max_parallel == 1


def test_an_include_brings_its_checks_its_moves_and_its_secrets(folder: Folder) -> None:
    folder.file(
        "base.yaml",
        HEAD + "checks: {up: {command: ask}}\nmoved: [{from: old, to: t}]\nsecrets: {provider: file, path: keys}\n",
    )
    manifest = folder.manifest(f"includes: [base.yaml]\n{TASK}}}\n").load()
    assert [check.name for check in manifest.checks] == ["up"]
    assert [(item.before, item.to) for item in manifest.moved] == [("old", "t")]
    assert (manifest.secrets.provider, manifest.secrets.path) == ("file", "keys")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("secrets: {ephemeral: false}", "ephemeral"),
        ("data: {d: {type: file, value: x, max_staleness: 1h}}", "max_staleness"),
    ],
)
def test_a_key_of_a_source_or_of_secrets_that_does_nothing_is_refused(folder: Folder, text: str, key: str) -> None:
    found = folder.manifest(f"{text}\n").says()
    assert f"error[not-supported]: `{key}` is not supported yet" in found and found.count("error[") == 1


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0"])
def test_the_network_of_all_addresses_is_everybody(folder: Folder, text: str) -> None:
    """As manifests of forjar have it; a part of all that covers all is a mistake."""
    rule = "resources: {{r: {{type: network, port: 22, from: '{}'}}}}\n"
    assert folder.manifest(rule.format(text)).load().resources["r"].fields.from_ == "any"
    assert "must be an address or a part of all" in folder.manifest(rule.format("10.0.0.0/0")).says()
