"""Includes: what wins, what is joined, and that every mistake is shown in the file where it stands."""

from __future__ import annotations

import pytest
from support_manifest import HEAD, Folder, block

from albor_pipeline.model.resource import Key


def test_an_include_brings_everything_that_a_manifest_may_hold(folder: Folder) -> None:
    folder.file(
        "parts/base.yaml",
        HEAD + "params: {seed: 7}\nmachines: {box: {addr: localhost}}\noutputs: {o: {value: '{{params.seed}}'}}\n"
        "policy: {failure: continue_independent}\nenvironments: {prod: {params: {seed: 8}}}\n"
        "resources:\n  base: {type: task, machine: box, command: 'run {{params.seed}} {{params.own}}'}\n",
    )
    folder.manifest(
        "includes: [parts/base.yaml]\nparams: {own: mine}\npolicy: {max_parallel: 3}\n"
        "resources:\n  t: {type: task, machine: box, command: x, depends_on: [base]}\n"
    )
    manifest = folder.load()
    assert manifest.resources["base"].fields.command == "run 7 mine"
    assert str(manifest.resources["base"].span).endswith("parts/base.yaml:9:3")
    assert [ref.resource for ref in manifest.resources["t"].depends_on] == ["base"]
    assert manifest.resources["t"].copies() == (Key("t", "box"),)
    assert (manifest.policy.max_parallel, manifest.policy.stop_on_first) == (3, False)
    assert [output.value for output in manifest.outputs] == ["7"]
    assert manifest.warnings == ()
    assert folder.load(environment="prod").resources["base"].fields.command == "run 8 mine"


def test_a_policy_that_an_include_lacks_stays_as_it_is(folder: Folder) -> None:
    folder.file("base.yaml", HEAD + "params: {a: 1}\n")
    folder.manifest("includes: [base.yaml]\npolicy: {failure: continue_independent, notify: {on_success: a}}\n")
    assert not folder.load().policy.stop_on_first


def test_notify_is_merged_key_by_key_too(folder: Folder) -> None:
    folder.file("base.yaml", HEAD + "policy: {notify: {on_failure: b}}\n")
    folder.manifest("includes: [base.yaml]\npolicy: {notify: {on_success: a}}\n")
    assert (folder.load().policy.on_success, folder.load().policy.on_failure) == ("a", "b")


def test_an_included_value_wins_and_both_places_are_named(folder: Folder) -> None:
    folder.file("base.yaml", HEAD + "params:\n  seed: 7\n").file("last.yaml", HEAD + "params: {seed: 9}\n")
    folder.manifest(
        "includes: [base.yaml, last.yaml]\nparams: {seed: 1}\nresources:\n  t: {type: task, command: 'x {{params.seed}}'}\n"
    )
    assert folder.load().resources["t"].fields.command == "x 9"
    assert folder.warns().startswith(
        block("""
        warning[overridden]: `params.seed` of base.yaml takes the place of the one at m.yaml:4:10
         --> base.yaml:4:3
          |
        3 | params:
        4 |   seed: 7
          |   ^^^^ this one is used
          = of two equal names the included one is used; give one of them another name, or remove it
    """)
    )
    assert "`params.seed` of last.yaml takes the place of the one at base.yaml:4:3" in folder.warns()


def test_includes_include_and_a_file_met_twice_counts_once(folder: Folder) -> None:
    folder.file("deep/a.yaml", HEAD + "includes: [b.yaml]\n").file(
        "deep/b.yaml", HEAD + "resources: {b: {type: task, command: x}}\n"
    )
    folder.manifest("includes: [deep/a.yaml, deep/../deep/b.yaml]\n")
    assert list(folder.load().resources) == ["b"]


def test_a_recipe_lies_beside_the_file_that_uses_it(folder: Folder) -> None:
    folder.file("lib/recipes/r.yaml", "recipe: {name: r}\nresources:\n  t: {type: task, command: x}\n")
    folder.file("lib/base.yaml", HEAD + "resources: {a: {type: recipe, recipe: r}}\n")
    folder.manifest("includes: [lib/base.yaml]\n")
    assert list(folder.load().resources) == ["a/t"]


def test_mistakes_in_several_files_come_in_one_report(folder: Folder) -> None:
    folder.file("base.yaml", HEAD + "params: {limit: soon}\nresources:\n  b: {type: task, comand: x}\n")
    folder.manifest('includes: [base.yaml]\nresources:\n  t: {type: task, command: x, timeout: "{{params.limit}}"}\n')
    found = folder.says()
    assert "--> base.yaml:5:19" in found and "did you mean `command`?" in found
    assert "--> m.yaml:5:40" in found and "= `params.limit` is `soon`, set at base.yaml:3:17" in found


@pytest.mark.parametrize(
    ("files", "includes", "message", "place"),
    [
        ({}, "[gone.yaml]", "gone.yaml: no such file or directory", "m.yaml:3:12"),
        ({}, "[m.yaml]", "these files include each other: m.yaml -> m.yaml", "m.yaml:3:12"),
        (
            {"a": HEAD + "includes: [b.yaml]\n", "b": HEAD + "includes: [a.yaml]\n"},
            "[a.yaml]",
            "a.yaml -> b.yaml -> a.yaml",
            "b.yaml:3:12",
        ),
        ({"a": HEAD}, "[a.yaml, ./a.yaml]", "`./a.yaml` is included twice", "m.yaml:3:20"),
        ({"a": "params: {}\n"}, "[a.yaml]", "the manifest needs `version`", "a.yaml:1:1"),
        ({"a": ""}, "[a.yaml]", "a.yaml is empty", "a.yaml:1:1"),
        ({"a": "[]"}, "[a.yaml]", "a.yaml is a list", "a.yaml:1:1"),
        ({"a": "a: [\n"}, "[a.yaml]", "this is not YAML", "a.yaml:2:1"),
        ({"a": HEAD + "params: []\n"}, "[a.yaml]", "`params` must be a mapping, not a list", "a.yaml:3:9"),
        ({"a": HEAD + "parms: {}\n"}, "[a.yaml]", "the manifest has no key `parms`", "a.yaml:3:1"),
        ({}, "a.yaml", "`includes` must be a list of paths, not text", "m.yaml:3:11"),
        ({}, "[[a]]", "an include must be a path", "m.yaml:3:12"),
        ({}, "[.]", " is no file", "m.yaml:3:12"),
    ],
)
def test_an_include_that_cannot_be_is_explained(
    folder: Folder, files: dict[str, str], includes: str, message: str, place: str
) -> None:
    for name, text in files.items():
        (folder.root / f"{name}.yaml").write_text(text)
    folder.manifest(f"includes: {includes}\nparams: {{p: 1}}\n")
    found = folder.says()
    assert message in found.replace(str(folder.root), "") and f"--> {place}\n" in found, found


def test_a_loop_of_links_is_explained(folder: Folder) -> None:
    (folder.root / "a.yaml").symlink_to("a.yaml")
    folder.manifest("includes: [a.yaml]\n")
    assert "a.yaml: too many levels of symbolic links" in folder.says()
