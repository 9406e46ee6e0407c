"""Functions in templates, the names they take, and what a diagnostic of a templated value shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from albor_pipeline.errors import ManifestError
from albor_pipeline.manifest.load import load
from albor_pipeline.manifest.scope import Scope
from albor_pipeline.manifest.template import resolve
from albor_pipeline.model.manifest import Machine
from albor_pipeline.ui.diagnostics import render_all

BOX = Machine("box", "10.0.0.1", "box.local", user="ann", roles=("gpu", "big"))
HEAD = 'version: "1.0"\nname: x\n'


def rendered(tmp_path: Path, text: str) -> str:
    path = tmp_path / "m.yaml"
    path.write_text(HEAD + text)
    with pytest.raises(ManifestError) as caught:
        load(path)
    return render_all(caught.value.diagnostics).replace(str(path), "m.yaml")


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{{upper(params.a)}} {{ lower( ABC ) }} {{trim(' b ')}}", "ONE TWO abc b"),
        ("{{replace(params.a, ' ', '-')}}", "one-two"),
        ('{{replace(params.a, " ", "")}}', "onetwo"),
        ("{{replace(params.a, one, three)}}", "three two"),
        ("{{default(params.empty, x)}} {{default(params.a, x)}} {{default(params.none, 'a, b')}}", "x one two a, b"),
        ("{{default(env(NONE), upper(params.a))}} {{env(HOME_OF)}}", "ONE TWO here"),
        ("{{join(params.list, ' + ')}} {{split(a:b:c, :)}}", "1 + 2 + 3 a,b,c"),
        ("{{join(split(replace(params.a, ' ', :), :), /)}}", "one/two"),
        ("{{machine.roles}} {{machine.self.name}} {{machine.addr}}", "gpu,big box 10.0.0.1"),
        ("{{b3sum(params.empty)}}", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
        ("{{item}}-{{ index }}-{{upper(item)}}", "red-3-RED"),
    ],
)
def test_functions_give_text(text: str, result: str) -> None:
    params = {"a": "one two", "empty": "", "list": "1, 2,3"}
    scope = Scope(params, {"box": BOX}, BOX, item="red", index="3", environ={"HOME_OF": "here"})
    assert resolve(text, scope) == (result, [])


@pytest.mark.parametrize(
    ("text", "message", "label"),
    [
        ("{{uper(params.a)}}", "there is no function `uper`", "did you mean `upper`?"),
        ("{{replace(params.a, x)}}", "`replace` takes 3 arguments, 2 were given", ""),
        ("{{upper()}}", "`upper` takes 1 argument, 0 were given", ""),
        ("{{upper(params.a}}", "this call is not closed by `)`", ""),
        ("{{upper(params.a) x}}", "`x` stands after the end of the call", ""),
        ("{{upper(params.b)}}", "there is no param `b`", ""),
        ("{{default(machine.bix.addr, x)}}", "there is no machine `bix`", "did you mean `box`?"),
        ("{{env(NONE)}}", "the environment has no variable `NONE`", ""),
        ("{{item}}", "`item` has a meaning only in a resource with `for_each`", ""),
        ("{{index}}", "`index` has a meaning only in a resource with `count`", ""),
        ("{{inputs.x}}", "`inputs` has a meaning only inside a recipe", ""),
        ("{{" + "upper(" * 20 + ")" * 20 + "}}", "calls are nested more than 16 deep", ""),
    ],
)
def test_a_call_that_cannot_work_is_explained(text: str, message: str, label: str) -> None:
    result, (fault,) = resolve(text, Scope({"a": "1"}, {"box": BOX}, environ={}))
    assert (result, fault.message, fault.label) == (text, message, label)


def test_a_wrong_value_is_shown_where_it_is_used_and_where_it_was_written(tmp_path: Path) -> None:
    text = 'params:\n  limit: soon\nresources:\n  t:\n    type: task\n    command: x\n    timeout: "{{params.limit}}"\n'
    assert rendered(tmp_path, text) == (
        "error[wrong-value]: `timeout` of task `t` must be a time above zero such as 90 (seconds), 10m or 1h30m, "
        'not `"{{params.limit}}"`\n'
        " --> m.yaml:9:14\n"
        "  |\n"
        "8 |     command: x\n"
        '9 |     timeout: "{{params.limit}}"\n'
        "  |              ^^^^^^^^^^^^^^^^^^\n"
        "  = `params.limit` is `soon`, set at m.yaml:4:10\n"
    )


def test_an_unknown_reference_that_a_param_named_shows_the_param(tmp_path: Path) -> None:
    text = "params: {up: frist}\nresources:\n  first: {type: task, command: x}\n"
    text += '  t: {type: task, command: x, depends_on: ["{{params.up}}"]}\n'
    found = rendered(tmp_path, text)
    assert "`t` depends on `frist`, which is not declared" in found and "m.yaml:6:44" in found
    assert "did you mean `first`, declared at line 5?" in found
    assert "= `params.up` is `frist`, set at m.yaml:3:14" in found


def test_every_text_field_takes_templates(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(
        HEAD + "params: {m: box, tag: fast, up: a, dir: out, d: why}\nmachines: {box: {addr: localhost}}\nresources:\n"
        "  a: {type: task, command: x, machine: box}\n"
        '  t:\n    type: task\n    machine: "{{params.m}}"\n    tags: ["{{params.tag}}"]\n    depends_on: ["{{params.up}}"]\n'
        '    command: "go {{machine.self.addr}}"\n    env: {HOST: "{{machine.name}}"}\n    description: "{{params.d}}"\n'
        '    completion_check: "test -e {{params.dir}}"\n    working_dir: "{{params.dir}}"\n'
        '    stage: ~\n    outputs: [{path: "{{params.dir}}/x", volatile: "{{default(params.none, true)}}"}]\n'
    )
    resource = load(path).resources["t"]
    fields = resource.fields
    assert (resource.machines, resource.tags, [ref.text for ref in resource.depends_on]) == (("box",), ("fast",), ["a"])
    assert (fields.command, fields.env, fields.description) == ("go localhost", {"HOST": "box"}, "why")
    assert (fields.completion_check, fields.working_dir) == ("test -e out", "out")
    assert [(item.path, item.volatile) for item in fields.outputs] == [("out/x", True)]
