"""load(): what a manifest means, and that all of its mistakes come in one report."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from albor_pipeline.errors import Diagnostic, ManifestError
from albor_pipeline.manifest.load import load
from albor_pipeline.model.manifest import Manifest

HEAD = 'version: "1.0"\nname: x\n'


def read(tmp_path: Path, text: str) -> Manifest:
    path = tmp_path / "pipeline.yaml"
    path.write_text(text)
    return load(path)


def problems(tmp_path: Path, text: str) -> list[Diagnostic]:
    with pytest.raises(ManifestError) as caught:
        read(tmp_path, text)
    return list(caught.value.diagnostics)


def task(body: str) -> str:
    return f"{HEAD}resources:\n  t:\n    type: task\n" + "".join(f"    {line}\n" for line in body.splitlines())


def test_a_task_keeps_its_text_and_gets_its_types(tmp_path: Path) -> None:
    manifest = read(tmp_path, task("command: echo 0644\ntimeout: 1h30m\nneeds: {gpu: 1, memory: 20GB}\ncache: false"))
    fields = manifest.resources["t"].fields
    assert (fields.command, fields.timeout_s, fields.needs.gpu) == ("echo 0644", 5400.0, 1)
    assert (fields.needs.memory, fields.cache) == (20_000_000_000, False)


def test_localhost_needs_no_declaration_and_is_listed_when_used(tmp_path: Path) -> None:
    manifest = read(tmp_path, task("command: x"))
    assert list(manifest.machines) == ["localhost"]
    assert manifest.machines["localhost"].is_local
    assert manifest.resources["t"].machines == ("localhost",)


def test_a_declared_machine_takes_the_place_of_localhost(tmp_path: Path) -> None:
    text = HEAD + "machines:\n  box: {addr: 127.0.0.1, slots: {gpu: 0, memory: 4GiB}}\n"
    manifest = read(tmp_path, text + "resources:\n  t: {type: task, command: x, machine: box}\n")
    assert list(manifest.machines) == ["box"]
    assert manifest.machines["box"].slots == {"gpu": 0, "memory_bytes": 4 << 30}


@pytest.mark.parametrize("folder", ["manifests", "other"])
def test_the_project_is_the_folder_of_the_manifest_or_above_manifests(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    manifest = read(tmp_path / folder, HEAD)
    assert manifest.root == str(tmp_path if folder == "manifests" else tmp_path / folder)


def test_params_reach_every_text_and_numbers_too(tmp_path: Path) -> None:
    text = HEAD + "params: {seed: 042, dir: out, limit: 30}\nresources:\n  t:\n    type: task\n"
    text += "    command: run --seed {{params.seed}} ${{{{ matrix }}\n"
    text += '    outputs: ["{{ params.dir }}/a"]\n    timeout: "{{params.limit}}"\n'
    fields = read(tmp_path, text).resources["t"].fields
    assert fields.command == "run --seed 042 ${{ matrix }}"
    assert (fields.outputs[0].path, fields.timeout_s) == ("out/a", 30.0)


def test_machine_self_gives_each_copy_its_own_fields(tmp_path: Path) -> None:
    text = HEAD + "machines:\n  a: {addr: 127.0.0.1}\n  b: {addr: localhost}\nresources:\n"
    text += '  t: {type: task, machine: [a, b], command: "run {{machine.self.addr}}"}\n'
    resource = read(tmp_path, text).resources["t"]
    assert [resource.fields_on(name).command for name in resource.machines] == ["run 127.0.0.1", "run localhost"]


def test_an_inline_config_is_read_as_yaml_1_2(tmp_path: Path) -> None:
    body = "stage: pretrain\nconfig: {lr: 3e-4, steps: 0x10, zip: 0123, word: yes, name: '5', none: ~, on: true}"
    config = read(tmp_path, task(body)).resources["t"].fields.config
    assert config == {"lr": 3e-4, "steps": 16, "zip": "0123", "word": "yes", "name": "5", "none": None, "on": True}


@pytest.mark.parametrize(
    "body",
    [
        'timeout: "60"',
        "cache: yes",
        'cache: "true"',
        "needs: {gpu: '1'}",
        "timeout: soon",
        "timeout: 0",
        "needs: {gpu: -1}",
    ],
)
def test_numbers_and_bools_must_be_plain_and_valid(tmp_path: Path, body: str) -> None:
    found = problems(tmp_path, task(f"command: x\n{body}"))
    assert [item.code for item in found] == ["wrong-value"]
    assert found[0].span is not None and found[0].span.line == 7


def test_null_in_an_optional_field_means_unset(tmp_path: Path) -> None:
    fields = read(tmp_path, task("command: x\ntimeout: ~\nretry:\ndescription: null")).resources["t"].fields
    assert (fields.timeout_s, fields.retry, fields.description) == (None, None, "")


def test_output_artifacts_is_another_spelling_of_outputs_and_both_are_refused(tmp_path: Path) -> None:
    manifest = read(tmp_path, task("command: x\noutput_artifacts: [a, {path: b, volatile: true}]"))
    assert [(item.path, item.volatile) for item in manifest.resources["t"].fields.outputs] == [
        ("a", False),
        ("b", True),
    ]
    assert str(manifest.resources["t"].spans["outputs.1.path"]).endswith(":7:34")
    found = problems(tmp_path, task("command: x\noutputs: [a]\noutput_artifacts: [b]"))
    assert [item.code for item in found] == ["duplicate-key"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("dist: {}", "dist"),
    ],
)
def test_what_the_format_has_and_we_have_not_is_refused_by_name(tmp_path: Path, text: str, where: str) -> None:
    found = problems(tmp_path, f"{HEAD}{text}\n")
    assert [item.code for item in found] == ["not-supported"]
    assert where in found[0].message and found[0].message.endswith("is not supported yet")


def test_all_problems_come_together_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "version: 2\nnam: x\nmachines:\n  m: {hostname: h}\nresources:\n"
    text += "  a: {type: tsk}\n  b: {type: task, command: x, tmeout: 5, depends_on: [c, zz]}\n"
    text += "  c: {type: task, depends_on: [b]}\n  d: {type: task, command: '{{params.q}}', machine: mm}\n"
    found = problems(tmp_path, text)
    codes = [item.code for item in found]
    expected = (
        "missing-key wrong-value unknown-key missing-key unknown-type unknown-key cycle unknown-resource wrong-value"
    )
    assert sorted(codes) == sorted([*expected.split(), "unknown-param", "unknown-machine"])
    lines = [item.span.line for item in found if item.span]
    assert lines == sorted(lines) and len(lines) == len(found)


def test_parallel_false_means_one_at_a_time(tmp_path: Path) -> None:
    assert read(tmp_path, HEAD + "policy: {parallel_resources: false}\n").policy.max_parallel == 1
    assert read(tmp_path, HEAD + "policy: {max_parallel: 3, failure: continue_independent}\n").policy.max_parallel == 3


@pytest.mark.parametrize("name", ["missing.yaml", "folder", "a\0b"])
def test_a_file_that_cannot_be_read_is_an_error_with_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(ManifestError) as caught:
        load(tmp_path / name)
    assert caught.value.diagnostics[0].code == "unreadable"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ("addr: ''", "wrong-value"),
        ("addr: a b", "wrong-value"),
        ("addr: h, port: 0", "wrong-value"),
        ("addr: h, port: 22-23", "wrong-value"),
        ("addr: h, arch: i386", "wrong-value"),
        ("addr: h, slots: {memory: much}", "wrong-value"),
        ("addr: [h]", "wrong-type"),
        ("hostname: h", "missing-key"),
    ],
)
def test_a_machine_that_cannot_be_reached_that_way_is_refused(tmp_path: Path, fields: str, code: str) -> None:
    assert [item.code for item in problems(tmp_path, f"{HEAD}machines: {{m: {{{fields}}}}}\n")] == [code]


def test_a_machine_keeps_what_is_declared(tmp_path: Path) -> None:
    text = HEAD + "machines:\n  m: {addr: h, port: 2222, user: ann, roles: [gpu], workdir: /srv, env: {A: 1}}\n"
    machine = read(tmp_path, text).machines["m"]
    assert (machine.port, machine.user, machine.roles, machine.workdir, machine.env) == (
        2222,
        "ann",
        ("gpu",),
        "/srv",
        {"A": "1"},
    )
    assert (machine.hostname, machine.is_local) == ("m", False)


@pytest.mark.parametrize(
    "fields",
    [
        "path: x, content: a, source: b",
        "path: x, state: directory, content: a",
        "path: x, state: symlink",
        "path: x, target: y",
        "path: x, state: absent, mode: 0644",
        "path: x, mode: 0999",
        "path: x, owner: Root User",
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, fields: str) -> None:
    assert [item.code for item in problems(tmp_path, f"{HEAD}resources: {{f: {{type: file, {fields}}}}}\n")] == [
        "wrong-value"
    ]


def test_a_task_takes_a_command_or_a_stage_and_says_so(tmp_path: Path) -> None:
    for body in ("command: x\nstage: y\nconfig: z", "env: {}", "stage: y", "command: x\nset: {a: 1}"):
        assert [item.code for item in problems(tmp_path, task(body))] == ["wrong-value"]


def test_many_resources_cost_little_more_than_the_yaml(tmp_path: Path) -> None:
    lines = [HEAD, "resources:\n"]
    for number in range(2_000):
        lines.append(f"  t{number}:\n    type: task\n    command: run {number}\n    outputs: [out/{number}]\n")
        lines.append(f"    timeout: 60\n    depends_on: [t{max(0, number - 1)}]\n" if number else "    timeout: 60\n")
    text = "".join(lines)
    begin = time.process_time()
    yaml.load(text, yaml.CSafeLoader)
    beside = time.process_time() - begin
    begin = time.process_time()
    assert len(read(tmp_path, text).resources) == 2_000
    assert time.process_time() - begin < beside + 0.5


def test_a_manifest_of_thousands_of_mistakes_is_not_read_to_its_end(tmp_path: Path) -> None:
    many = "".join(f"  t{i}: {{type: task, comand: x, command: x, depends_on: [t{i + 1}]}}\n" for i in range(6_000))
    *told, last = problems(tmp_path, f"{HEAD}resources:\n{many}")
    assert len(told) == 5_000 and {item.code for item in told} == {"unknown-key"}
    assert (last.code, last.message) == (
        "too-many", "a manifest with 5,000 mistakes is not read any further; here `t5000` would come next",
    )  # fmt: skip


def test_a_template_in_a_param_is_said_to_stay_one(tmp_path: Path) -> None:
    text = f"{HEAD}params: {{a: '{{{{ params.b }}}}/x', b: '{{{{ .Values.c }}}}', c: '{{{{secrets.k}}}}', d: '{{{{{{{{item'}}\n"
    told = read(tmp_path, text).warnings
    assert [(item.code, item.message) for item in told] == [
        ("template-in-param", "the param `a` holds the template `{{ params.b }}`, which is put in as it stands"),
        ("template-in-param", "the param `c` holds the template `{{secrets.k}}`, which is put in as it stands"),
    ]


@pytest.mark.parametrize(("one", "two", "field"), [
    ("content: 1", "content: 2", "content"), ("content: 1", "source: x", "content"), ("mode: 0600", "mode: 0644", "mode"),
    ("state: absent", "content: 1", "state"), ("state: symlink, target: a", "state: symlink, target: b", "target"),
    ("owner: ann", "owner: bob", "owner"), ("state: directory, source: a", "state: directory, source: b", "source"),
])  # fmt: skip
def test_one_file_declared_in_two_ways_is_an_error(tmp_path: Path, one: str, two: str, field: str) -> None:
    text = f"{HEAD}resources:\n  a: {{type: file, path: srv/x, {one}}}\n  b: {{type: file, path: ./srv/y/../x/, {two}}}\n"
    assert [(item.level, item.message) for item in problems(tmp_path, text)] == [
        ("error", f"`b` and `a` are one file, `./srv/y/../x/`, with another `{field}`: each would undo what the other one did"),
    ]


def test_files_that_do_not_contradict_one_another_may_have_one_path(tmp_path: Path) -> None:
    text = f"{HEAD}machines: {{m: {{addr: localhost, workdir: /srv}}}}\nresources:\n  a: {{type: file, path: x, content: 1}}\n"
    text += "  b: {type: file, path: ./x, content: 1, tags: [two]}\n  c: {type: file, path: x, mode: 0600}\n"
    text += "  d: {type: file, machine: m, path: x, content: 2}\n  e: {type: file, machine: m, path: /srv/x/y}\n"
    assert read(tmp_path, text).warnings == ()
