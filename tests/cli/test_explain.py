"""`explain` says what a type or a field means, from the declarations that check a manifest; an unknown name gets the closest."""

from __future__ import annotations

import pytest

from albor_pipeline.manifest import later
from albor_pipeline.manifest.describe import blocks
from albor_pipeline.resources.registry import KINDS
from cli.builder import Project

BLOCKS = {block.name: block for block in blocks()}


def test_a_field(project: Project) -> None:
    project.says("explain", "task.timeout", out="""
        task.timeout: after this time an attempt is ended
          takes     time such as 90 (seconds), 10m or 1h30m
          required  no
          a change  counts the next time; runs nothing again
    """)


def test_a_field_with_fields_inside(project: Project) -> None:
    project.says("explain", "task.retry", out="""
        task.retry: whether and when a failed attempt is repeated
          takes     mapping (attempts, backoff, on)
          required  no
          a change  counts the next time; runs nothing again

          attempts  how many attempts in all
          backoff   how long to wait before the next attempt
          on        after which ends another attempt is made
    """)


def test_a_field_inside_a_field_with_its_default(project: Project) -> None:
    project.says("explain", "task.retry.backoff", out="""
        task.retry.backoff: how long to wait before the next attempt
          takes     time such as 90 (seconds), 10m or 1h30m
          default   10
          a change  counts the next time; runs nothing again
    """)


def test_a_choice_names_every_value(project: Project) -> None:
    project.says("explain", "file.state", out="""
        file.state: what must be there
          takes     file, directory, symlink or absent
          default   file
          a change  runs or applies it again
    """)


def test_another_spelling_leads_to_the_field(project: Project) -> None:
    said = project.run("explain", "task.output_artifacts")
    assert "  takes     list of (path or mapping (path, volatile))\n" in said.out
    assert "  also      written `output_artifacts`\n" in said.out


def test_a_default_that_comes_from_the_name_is_no_requirement(project: Project) -> None:
    assert "  default   .albor/env/NAME\n" in project.run("explain", "python_env.path").out


def test_a_type_lists_its_fields_and_those_of_every_resource(project: Project) -> None:
    said = project.run("explain", "file")
    head, _, tail = said.out.partition("\nas every resource:\n")
    assert head.startswith("file: A file, a folder, a link, or the absence of one;")
    assert "\n  path            where it is on the machine (required)\n" in head
    assert tail.startswith("  type            what kind of thing it is (required)\n  machine ")
    assert tail.endswith("\nTo see one: albor-pipeline explain file.path\n")


def test_what_has_no_effect_yet_is_said(project: Project) -> None:
    for name in (*sorted(later.TYPES), *(f"task.{key}" for key in sorted(later.KIND["task"]))):
        lines = project.run("explain", name).out.splitlines()
        assert any(line.split()[:2] == ["not", "yet"] and line.endswith("a plan that needs it is refused") for line in lines), name


def test_without_a_name_the_types_are_listed(project: Project) -> None:
    said = project.run("explain")
    assert said.exit == 0
    assert all(f"\n  {name} " in said.out for name in (*KINDS, "manifest", "machine", "policy", "output", "resource"))


def test_an_unknown_type_gets_the_closest_name(project: Project) -> None:
    said = project.run("explain", "python-env")
    assert (said.exit, said.out) == (64, "")
    first, second, third = said.err.splitlines()
    assert (first, second) == ("error[unknown-name]: there is no type `python-env`", "  = did you mean `python_env`?")
    assert third.startswith("  = there are: manifest, ")


def test_an_unknown_field_gets_the_closest_name(project: Project) -> None:
    project.says("explain", "task.retry.atempts", exit=64, err="""
        error[unknown-name]: `task.retry` has no field `atempts`
          = did you mean `attempts`?
          = it takes: attempts, backoff, on
    """).says("explain", "task.retry.on.x", exit=64, err="""
        error[unknown-name]: `task.retry.on` has no field `x`
          = it has no fields
    """)


@pytest.mark.parametrize("name", BLOCKS)
def test_every_field_can_be_explained_and_says_what_it_is_for(project: Project, name: str) -> None:
    for field in (*BLOCKS[name].fields, *BLOCKS[name].common):
        for path, inner in field.walk():
            assert inner.about, f"{name}.{path} needs Field(description=...)"
        first = project.run("explain", f"{name}.{field.name}").out.splitlines()[0]
        assert first == f"{name}.{field.name}: {field.about}"
