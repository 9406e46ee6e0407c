"""Who refers to whom: names, outputs, machines, cycles."""

from __future__ import annotations

from pathlib import Path

import pytest

from albor_pipeline.errors import ManifestError
from albor_pipeline.manifest.load import load
from albor_pipeline.model.manifest import Manifest


def manifest(tmp_path: Path, *resources: str, machines: str = "{}") -> Manifest:
    path = tmp_path / "m.yaml"
    body = "".join(f"  {line}\n" for line in resources)
    path.write_text(f'version: "1.0"\nname: x\nmachines: {machines}\nresources:\n{body}')
    return load(path)


def codes(tmp_path: Path, *resources: str, machines: str = "{}") -> list[tuple[str, str]]:
    with pytest.raises(ManifestError) as caught:
        manifest(tmp_path, *resources, machines=machines)
    return [(item.code, item.message) for item in caught.value.diagnostics]


def task(name: str, extra: str = "") -> str:
    return f"{name}: {{type: task, command: x{', ' + extra if extra else ''}}}"


@pytest.mark.parametrize("word", ["a.out", "a.out/data", "a.data", "a"])
def test_an_input_may_name_a_resource_or_one_of_its_outputs(tmp_path: Path, word: str) -> None:
    outputs = "outputs: [out/data.txt, out/out.bin]" if word == "a.out" else "outputs: [out/data]"
    found = manifest(tmp_path, task("a", outputs), task("b", f"inputs: [{word}, src/x.py]"))
    (reference,) = found.resources["b"].depends_on
    assert (reference.text, reference.resource) == (word, "a")
    assert reference.output == (word.partition(".")[2] or None)


def test_a_dotted_name_is_a_resource_before_it_is_an_output(tmp_path: Path) -> None:
    found = manifest(tmp_path, task("a.b", "outputs: [c]"), task("d", "inputs: [a.b, a.b.c]"))
    assert [(item.resource, item.output) for item in found.resources["d"].depends_on] == [("a.b", None), ("a.b", "c")]


def test_depends_on_and_inputs_meet_in_one_list_without_doubles(tmp_path: Path) -> None:
    found = manifest(tmp_path, task("a", "outputs: [o]"), task("c"), task("b", "inputs: [a], depends_on: [a, c]"))
    assert [item.text for item in found.resources["b"].depends_on] == ["a", "c"]


def test_one_copy_is_picked_by_machine(tmp_path: Path) -> None:
    machines = "{m: {addr: localhost}, n: {addr: localhost}}"
    found = manifest(
        tmp_path, task("a", "machine: [m, n]"), task("b", "machine: m, depends_on: [a@n]"), machines=machines
    )
    assert found.resources["b"].depends_on[0].machine == "n"
    wrong = codes(tmp_path, task("a", "machine: m"), task("b", "machine: m, depends_on: [a@n]"), machines=machines)
    assert [code for code, _ in wrong] == ["unknown-machine"]


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ("depends_on: [aa]", "unknown-resource"),
        ("depends_on: [b]", "self-reference"),
        ("inputs: [b.x]", "self-reference"),
        ("inputs: [a.nothing]", "unknown-output"),
        ("python: a", "wrong-kind"),
        ("python: nothing", "unknown-resource"),
        ("machine: nowhere", "unknown-machine"),
        ("machine: [localhost, localhost]", "wrong-value"),
    ],
)
def test_a_reference_to_nothing_is_an_error(tmp_path: Path, extra: str, code: str) -> None:
    assert [found for found, _ in codes(tmp_path, task("a", "outputs: [o]"), task("b", extra))] == [code]


def test_python_names_an_environment_and_waits_for_it(tmp_path: Path) -> None:
    found = manifest(
        tmp_path, "env: {type: python_env}", task("b", "python: env"), task("c", "python: /usr/bin/python3")
    )
    assert [item.resource for item in found.resources["b"].depends_on] == ["env"]
    assert found.resources["env"].fields.path == ".albor/env/env"
    assert found.resources["c"].depends_on == ()


def test_a_cycle_is_shown_as_a_path_with_line_numbers(tmp_path: Path) -> None:
    ring = [task(name, f"depends_on: [{other}]") for name, other in ("ac", "ba", "cb")]
    found = codes(tmp_path, *ring, task("d", "depends_on: [a]"))
    assert found == [("cycle", "these depend on each other: a (5) -> c (7) -> b (6) -> a")]


def test_two_cycles_are_two_errors(tmp_path: Path) -> None:
    pairs = [task(name, f"depends_on: [{other}]") for name, other in ("ab", "ba", "cd", "dc")]
    assert [code for code, _ in codes(tmp_path, *pairs)] == ["cycle", "cycle"]


def test_a_word_close_to_a_resource_is_a_path_with_a_warning(tmp_path: Path) -> None:
    found = manifest(tmp_path, task("corpus", "outputs: [o]"), task("b", "inputs: [corpu]"))
    assert [item.code for item in found.warnings] == ["path-like-name"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("out", "out"), ("out/", "./out"), ("out", "out/a/b"), ("out/a/b", "out"), (".", "x"), ("out/*.txt", "out/a.txt"),
        ("out/a.txt", "out/*.txt"), ("out/*", "out/a/b"), ("out/*", "out"), ("out/*.txt", "out/*.txt"),
    ],
)
def test_two_tasks_may_not_write_the_same_or_nested_outputs(tmp_path: Path, first: str, second: str) -> None:
    found = codes(tmp_path, task("a", f"outputs: ['{first}']"), task("b", f"outputs: ['{second}']"))
    assert [code for code, _ in found] == ["output-overlap"]


def test_an_output_written_from_the_root_is_the_same_output(tmp_path: Path) -> None:
    found = codes(tmp_path, task("a", "outputs: [out/x]"), task("b", f"outputs: ['{tmp_path}/out']"))
    assert [message for _, message in found] == [f"output `{tmp_path}/out` of `b` overlaps `out/x`, an output of `a`, declared at line 5"]


def test_outputs_beside_one_another_are_fine(tmp_path: Path) -> None:
    machines = "{m: {addr: localhost}, n: {addr: localhost}}"
    beside = [task("a", "outputs: [out/a, out/ab], machine: m"), task("b", "outputs: [out/b, out/a.b], machine: m")]
    beside += [task("c", "outputs: [out/a, 'x/*.txt'], machine: n"), task("d", "outputs: ['x/*.json', y.txt], machine: n")]
    assert len(manifest(tmp_path, *beside, machines=machines).resources) == 4


@pytest.mark.parametrize(
    ("source", "output"), [("out/a", "out"), ("out", "out/a"), ("out/*.txt", "out/x.txt"), ("x", "x")]
)
def test_an_input_and_an_output_of_one_task_may_not_lie_in_one_another(
    tmp_path: Path, source: str, output: str
) -> None:
    found = codes(tmp_path, task("a", f"inputs: ['{source}'], outputs: ['{output}']"))
    assert [code for code, _ in found] == ["input-in-output"]


@pytest.mark.parametrize("name", ["a b", "a@b", "-a", "'../x'", "'a\\b'", "x" * 300])
def test_a_name_that_cannot_be_a_reference_is_refused(tmp_path: Path, name: str) -> None:
    assert [code for code, _ in codes(tmp_path, task(name))] == ["bad-name"]
