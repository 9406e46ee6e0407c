"""The JSON Schema: it takes whatever the loader takes, and refuses what is wrong in one key alone, at that key."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from unit.manifest.json_schema import problems

from albor_pipeline.errors import Problems, Source
from albor_pipeline.manifest import sections
from albor_pipeline.manifest.flat import OF_FORJAR, foreign
from albor_pipeline.manifest.jsonschema import DRAFT, SECTIONS, recipe_schema, schema
from albor_pipeline.manifest.load import load
from albor_pipeline.manifest.nodes import Text, compose
from albor_pipeline.manifest.resources import COMMON, EXPANDING
from albor_pipeline.manifest.schema import Reader, nested
from albor_pipeline.resources.fields import Fields, typed
from albor_pipeline.resources.registry import KINDS

ROOT = Path(__file__).resolve().parents[3]
MANIFESTS = sorted([*(ROOT / "manifests").glob("*.yaml"), *(ROOT / "tests" / "golden").glob("*/manifest.yaml")])
EVERYTHING = """
version: 1.0
name: 7
description:
params: {a: 1, b: [1, 2], yes: true}
machines:
  lambda:
    addr: 10.0.0.1
    port: 22
    slots: {cpu: 0x10, memory: 16GiB, gpu: "{{params.a}}"}
    env: {THREADS: 1}
policy: {failure: stop_on_first, parallel_machines: false, max_parallel: , notify: {on_failure: ls}}
outputs: {out: {value: 3}}
resources:
  environment: {type: python_env, requirements: [numpy>=1.26]}
  link: {type: file, path: /l, state: symlink, target: b}
  text: {type: file, path: /a, content: 5, mode: 0644, machine: [localhost, lambda]}
  task:
    type: task
    machine: lambda
    command: "true"
    timeout: 1h 30m
    heartbeat: 90
    cache: "{{params.yes}}"
    needs: {gpu: 1, memory: 512MB}
    retry: {attempts: 2, backoff: 500ms, on: [oom]}
    output_artifacts: [a, {path: b, volatile: true}]
    depends_on: [link]
    env: {A: 1, B: "{{params.a}}"}
  stage: {type: task, stage: pack, config: {seq_len: 256}, set: {optimizer.lr: 3e-4}}
"""
WHOLE, RECIPES = schema(), recipe_schema()
RECIPE = """
recipe:
  name: site
  version: 2
  inputs:
    domain: {type: string, description: its name}
    port: {type: int, default: 80, min: 1, max: 65535}
    mode: {type: enum, choices: [a, b], default: }
  requires: [{recipe: base, version: 1.0}, {recipe: other}]
resources:
  page: {type: file, path: "/srv/{{inputs.domain}}", content: x, count: 2, depends_on: [other]}
  other: {type: recipe, recipe: base, inputs: {a: 1}}
"""
RECIPE_MISTAKES = {
    "resources: {}": ".recipe: missing",
    "recipe: {name: x}\nname: y": ".name: unknown",
    "recipe: {version: 1}": ".recipe: none of the forms",
    "recipe: {name: x, inputs: {a: {typ: int}}}": ".recipe: none of the forms",
    "recipe: {name: x}\nresources: {a: {type: fil}}": ".resources: none of the forms",
}
MISTAKES = {
    "name: x": ".version: missing",
    'version: "1.0"': ".name: missing",
    'version: "2.0"\nname: x': ".version: none of the forms",
    'version: "1.0"\nname: [x]': ".name: wrong type",
    'version: "1.0"\nname: x\nresource: {}': ".resource: unknown",
    'version: "1.0"\nname: x\nmachines: {a: {hostname: a}}': ".machines: none of the forms",
}
WRONG = {
    "{type: task, comand: ls}": "unknown",
    "{type: tsk}": "not one of the values",
    "{command: ls}": "missing",
    "{type: file, state: file}": "missing",
    "{type: file, path: /a, state: fil}": "none of the forms",
    "{type: task, command: ls, timeout: soon}": "none of the forms",
    "{type: task, command: ls, timeout: 0}": "none of the forms",
    "{type: task, command: ls, cache: yes please}": "none of the forms",
    "{type: task, command: ls, needs: {cpu: -1}}": "none of the forms",
    "{type: task, command: ls, needs: {gpus: 1}}": "none of the forms",
    "{type: task, command: ls, retry: {on: [eror]}}": "none of the forms",
    "{type: task, command: ls, inputs: a}": "none of the forms",
    "{type: task, command: [ls]}": "wrong type",
    "{type: python_env, command: ls}": "unknown",
}


def _read(text: str) -> Any:
    """YAML 1.2, as an editor reads it."""
    found = Problems()
    whole = Text(Source("test", text))
    node = compose(whole, found)
    assert node is not None and not found.errors
    return typed(Reader(whole, found).raw(node, None))


def _told(text: str) -> list[str]:
    return list(problems(_read(text), WHOLE, WHOLE))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_manifest_that_loads_is_accepted(path: Path) -> None:
    assert _told(path.read_text()) == []


def test_every_form_of_a_value_that_the_loader_takes_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "everything.yaml").write_text(EVERYTHING)
    assert load(tmp_path / "everything.yaml").name == "7"
    assert _told(EVERYTHING) == []


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_refused(text: str) -> None:
    assert MISTAKES[text] in _told(text)


@pytest.mark.parametrize("resource", WRONG)
def test_a_mistake_in_a_resource_is_refused(resource: str) -> None:
    found = list(problems(_read(resource), WHOLE["definitions"]["resource"], WHOLE))
    assert found and all(line.endswith(WRONG[resource]) for line in found)


@pytest.mark.parametrize("name", sorted(OF_FORJAR))
def test_a_key_that_the_loader_only_warns_of_is_accepted(name: str) -> None:
    form = WHOLE["definitions"][f"type-{name}"]
    said = problems(dict.fromkeys(foreign(name), "x"), form, WHOLE)
    assert sorted(said) == sorted(f".{key}: missing" for key in form["required"])


def test_the_loader_warns_of_a_key_that_is_accepted_for_that(tmp_path: Path) -> None:
    text = 'version: "1.0"\nname: x\nresources:\n  a: {type: file, path: /a, content: x, uid: 5, ports: [1], enabled: false, image: }\n'
    (tmp_path / "flat.yaml").write_text(text)
    assert [item.code for item in load(tmp_path / "flat.yaml").warnings] == ["no-effect"] * 2
    assert _told(text) == []


def test_a_recipe_file_that_loads_is_accepted_and_a_mistake_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "site.yaml").write_text(RECIPE)
    (tmp_path / "recipes" / "base.yaml").write_text("recipe: {name: base, version: 1.0, inputs: {a: {}}}")
    (tmp_path / "recipes" / "other.yaml").write_text("recipe: {name: other}")
    use = "".join(f"  {name}: {{type: recipe, recipe: {name}{more}}}\n" for name, more in (
        ("site", ", inputs: {domain: d, mode: a}"), ("base", ", inputs: {a: 1}"), ("other", ""),
    ))  # fmt: skip
    (tmp_path / "uses.yaml").write_text(f'version: "1.0"\nname: x\nresources:\n{use}')
    assert "site/page-0" in load(tmp_path / "uses.yaml").resources
    assert list(problems(_read(RECIPE), RECIPES, RECIPES)) == []
    for text, said in RECIPE_MISTAKES.items():
        assert list(problems(_read(text), RECIPES, RECIPES)) == [said]


def test_every_type_has_its_rule_and_every_reference_leads_somewhere() -> None:
    whole = WHOLE
    assert whole["$schema"] == DRAFT
    assert whole["definitions"]["resource"]["properties"]["type"]["enum"] == list(KINDS)
    for form in (whole, RECIPES):
        assert set(re.findall(r"'#/definitions/([^']+)'", str(form))) == set(form["definitions"])


@pytest.mark.parametrize("name", KINDS)
def test_a_type_completes_every_key_that_the_loader_takes(name: str) -> None:
    form = WHOLE["definitions"][f"type-{name}"]
    own = {field.alias or key for key, field in KINDS[name].model.model_fields.items()}
    known = {*own, *KINDS[name].names, *COMMON, *EXPANDING}
    assert set(form["properties"]) == known


def test_every_block_of_the_format_is_described() -> None:
    declared = {item for item in vars(sections).values() if isinstance(item, type) and issubclass(item, Fields)} - {Fields}
    known = {sections.Head, *(section.model for section in SECTIONS.values() if section.model is not None)}
    while inner := {found for model in known for field in model.model_fields.values() if (found := nested(field.annotation))} - known:
        known |= inner
    assert declared <= known, "name the missing ones in SECTIONS of albor_pipeline/manifest/jsonschema.py"


def test_a_shipped_manifest_names_the_schema_that_editors_read() -> None:
    for path in sorted((ROOT / "manifests").glob("*.yaml")):
        found = re.match(r"# yaml-language-server: \$schema=(\S+)\n", path.read_text())
        assert found and (path.parent / found[1]).is_file(), path
        assert json.loads((path.parent / found[1]).read_text()) == WHOLE
