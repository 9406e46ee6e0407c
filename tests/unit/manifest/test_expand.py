"""`count`, `for_each` and `when`: which resources there are, what their fields hold, and who waits for them."""

from __future__ import annotations

import pytest
from support_manifest import Folder, block

MACHINES = """
machines:
  a: {addr: 10.0.0.1, arch: aarch64, roles: [gpu, big], user: ann}
  b: {addr: 10.0.0.2, hostname: bee}
"""


@pytest.mark.effect("any.count")
def test_count_makes_copies_with_an_index_in_every_field(folder: Folder) -> None:
    folder.manifest("""
        machines: {m0: {addr: localhost}, m1: {addr: localhost}}
        resources:
          t:
            count: 2
            type: task
            machine: "m{{index}}"
            tags: ["part-{{index}}"]
            command: run {{ index }}
            env: {PART: "{{index}}"}
            timeout: 1{{index}}
            outputs: ["out/{{index}}"]
            needs: {cpu: "{{index}}"}
    """)
    resources = folder.load().resources
    assert list(resources) == ["t-0", "t-1"]
    one = resources["t-1"]
    assert (one.machines, one.tags, one.fields.command, one.fields.env) == (
        ("m1",),
        ("part-1",),
        "run 1",
        {"PART": "1"},
    )
    assert (one.fields.outputs[0].path, one.fields.needs.cpu, one.fields.timeout_s) == ("out/1", 1, 11.0)


def test_a_quoted_number_beside_a_template_is_text(folder: Folder) -> None:
    folder.manifest("""
        resources:
          t: {type: task, count: 1, command: x, timeout: "{{index}}0"}
    """)
    assert "`timeout` of task `t-0` must be a time above zero" in folder.says()


@pytest.mark.effect("any.for_each")
def test_for_each_makes_a_copy_for_each_item_and_its_group_means_all(folder: Folder) -> None:
    folder.manifest("""
        params: {last: z}
        resources:
          part: {type: task, for_each: [x, y, "{{params.last}}"], command: "make {{item}}", outputs: ["out/{{item}}"]}
          all: {type: task, command: x, depends_on: [part]}
          some: {type: task, command: x, inputs: [part, part.x, other]}
          one: {type: task, command: x, depends_on: [part-y]}
    """)
    resources = folder.load().resources
    assert list(resources) == ["part-x", "part-y", "part-z", "all", "some", "one"]
    assert [ref.resource for ref in resources["all"].depends_on] == ["part-x", "part-y", "part-z"]
    assert [(ref.text, ref.resource, ref.output) for ref in resources["some"].depends_on] == [
        ("part", "part-x", None), ("part", "part-y", None), ("part", "part-z", None), ("part.x", "part-x", "x"),
    ]  # fmt: skip
    assert [ref.resource for ref in resources["one"].depends_on] == ["part-y"]
    assert str(resources["part-y"].span).endswith("m.yaml:5:36")


def test_the_inputs_of_a_group_are_the_outputs_of_all_its_members(folder: Folder) -> None:
    from albor_pipeline.model.resource import Key
    from albor_pipeline.plan.graph import build
    from albor_pipeline.plan.inputs import Inputs

    folder.manifest("""
        resources:
          part: {type: task, for_each: [x, y], command: "make {{item}}", outputs: ["out/{{item}}"]}
          all: {type: task, command: x, inputs: [part]}
    """)
    manifest = folder.load()
    found = Inputs(manifest, build(manifest)).of(Key("all", "localhost"))
    assert [(item.path, item.makers) for item in found] == [
        ("out/x", (Key("part-x", "localhost"),)), ("out/y", (Key("part-y", "localhost"),)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "message", "column"),
    [
        ("count: 0", "`count` of resource `t` must be a whole number from 1 to 10,000, not `0`", 38),
        ("count: many", "`count` of resource `t` must be a whole number", 38),
        ("count: 20000", "from 1 to 10,000", 38),
        ("for_each: []", "`for_each` of resource `t` must be a list with at least one item", 41),
        ("for_each: x", "`for_each` of resource `t` must be a list, not `x`", 41),
        ("count: 2, for_each: [x]", "resource `t` has both `count` and `for_each`", 31),
        ("for_each: [x, x]", "two resources are named `t-x`", 45),
        ("for_each: [x, a b]", "the item `a b` of `t` cannot end the name of a resource", 45),
        ("command: '{{item}}', for_each: [x], depends_on: [t]", "`t-x` refers to itself", 68),
    ],
)
def test_copies_that_cannot_be_are_refused(folder: Folder, fields: str, message: str, column: int) -> None:
    command = "" if "command" in fields else "command: x, "
    folder.manifest(f"resources:\n  t: {{type: task, {command}{fields}}}\n")
    found = folder.says()
    assert message in found and found.count("error[") == 1
    assert f"--> m.yaml:4:{column}" in found, found


def test_a_mistake_in_all_copies_is_told_once(folder: Folder) -> None:
    folder.manifest("""
        resources:
          t: {type: task, count: 50, command: "{{params.x}}", timeout: soon, depends_on: [gone]}
          u: {type: task, count: 50, command: x, depends_on: [gone]}
    """)
    assert folder.says().count("error[") == 4


def test_a_wrong_item_is_shown_with_its_place(folder: Folder) -> None:
    folder.manifest("""
        resources:
          t: {type: task, for_each: ["10", later], command: x, timeout: "{{item}}"}
    """)
    assert folder.says() == block("""
        error[wrong-value]: `timeout` of task `t-later` must be a time above zero such as 90 (seconds), 10m or 1h30m, not `"{{item}}"`
         --> m.yaml:4:65
          |
        3 | resources:
        4 |   t: {type: task, for_each: ["10", later], command: x, timeout: "{{item}}"}
          |                                                                 ^^^^^^^^^^
          = `item` is `later`, set at m.yaml:4:36
    """)


@pytest.mark.parametrize(
    ("when", "on"),
    [
        ("true", "ab"),
        ("'false'", ""),
        ('"{{machine.arch}} == aarch64"', "a"),
        ('"{{ machine.arch }} != aarch64"', "b"),
        ('"{{machine.roles}} contains gpu"', "a"),
        ("\"{{params.os}} == 'a == b'\"", "ab"),
        ('"{{machine.hostname}} == bee"', "b"),
        ('"{{params.on}}"', "ab"),
        ('"{{upper(machine.user)}} == ANN"', "a"),
    ],
)
@pytest.mark.effect("any.when")
def test_when_says_on_which_machines_a_resource_is(folder: Folder, when: str, on: str) -> None:
    folder.manifest(
        f"params: {{os: a == b, on: true}}\n{MACHINES}resources:\n  t: {{type: task, machine: [a, b], command: x, when: {when}}}\n"
        "  after: {type: task, machine: a, command: x, depends_on: [t]}\n"
    )
    resources = folder.load().resources
    assert "".join(resources["t"].machines if "t" in resources else ()) == on
    assert [ref.resource for ref in resources["after"].depends_on] == (["t"] if on else [])


def test_the_copy_that_is_left_has_the_fields_of_its_machine(folder: Folder) -> None:
    folder.manifest(
        f"{MACHINES}resources:\n  t: {{type: task, machine: [a, b], command: 'at {{{{machine.self.addr}}}}', "
        'when: "{{machine.name}} == b"}\n'
    )
    assert folder.load().resources["t"].fields_on("b").command == "at 10.0.0.2"


def test_when_reads_the_item_of_a_copy(folder: Folder) -> None:
    folder.manifest("""
        resources:
          t: {type: task, for_each: [x, y], command: "{{item}}", when: "{{item}} != x"}
    """)
    assert list(folder.load().resources) == ["t-y"]


def test_what_is_written_out_and_empty_is_no_condition_and_no_copies(folder: Folder) -> None:
    folder.manifest("resources:\n  t: {type: task, command: x, when: null, count: , for_each: ~}\n")
    assert list(folder.load().resources) == ["t"]


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ("maybe", "`when: maybe` is no condition"),
        ('"a == b == c"', "`when: a == b == c` compares more than once"),
        ('"{{params.x}} == 1"', "there is no param `x`"),
        ("[a]", "`when` must be text, not a list"),
    ],
)
def test_a_condition_that_is_none_is_refused_once(folder: Folder, when: str, message: str) -> None:
    folder.manifest(f"{MACHINES}resources:\n  t: {{type: task, machine: [a, b], command: x, when: {when}}}\n")
    found = folder.says()
    assert message in found and found.count("error[") == 1


def test_reading_what_is_on_no_machine_is_an_error(folder: Folder) -> None:
    folder.manifest("""
        resources:
          t: {type: task, command: x, outputs: [o], when: "false"}
          u: {type: task, command: x, inputs: [t]}
    """)
    assert "`u` reads `t`, and no machine fulfils the `when` or the `arch` of that" in folder.says()


def test_a_mistake_in_a_resource_that_is_on_no_machine_is_found(folder: Folder) -> None:
    folder.manifest("resources:\n  t: {type: task, command: x, timeout: soon, when: 'false'}\n")
    assert "`timeout` of task `t`" in folder.says()


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ("t: {type: task, command: x, count: 500}\n  u: {type: task, command: x, count: 500, depends_on: [t]}", "at most 200,000 times"),
        ("t: {type: task, command: x, when: '" + "a " * 3000 + "'}", "is longer than 4,096 characters"),
        ("t: {type: task, command: '" + "{{params.x}}" * 30 + "'}", "there is no param `x`"),
        ("t: {type: task, command: '{{replace(replace(params.a, a, params.a), a, params.a)}}'}", "longer than 1,048,576 characters"),
    ],
)
def test_what_would_grow_without_bound_is_refused(folder: Folder, resources: str, message: str) -> None:
    folder.manifest(f"params: {{a: {'a' * 1000}}}\nresources:\n  {resources}\n")
    found = folder.says()
    assert message in found and found.count("error[") <= 20
