"""`template` shows a resource as it is after everything was resolved, in a form that a manifest may hold."""

from __future__ import annotations

import textwrap

import pytest

from albor_pipeline.manifest.load import load
from cli.builder import Project

HEAD = """
params: {longest: 5, keep: true}
machines:
  lambda: {addr: localhost, hostname: box}
  intel: {addr: localhost, workdir: /tmp/intel}
"""
RESOURCES = """
words:
  type: task
  machine: lambda
  command: |
    sort in.txt > {{machine.self.hostname}}.txt
    # {{params.longest}} at most
  inputs: [in.txt]
  output_artifacts: [words.txt, {path: log, volatile: "{{params.keep}}"}]
  timeout: 1h30m
  needs: {memory: 2GB}
  env: {LIMIT: "{{params.longest}}", MODE: 0644}
count:
  type: task
  stage: pack
  config: {seq_len: "{{params.longest}}", lr: 3e-4, text: "3e-4", none: null, flag: true}
  inputs: [words.log]
  machine: [lambda, intel]
  tags: [small]
note:
  type: file
  path: /tmp/{{machine.self.name}}
  content: "{{machine.self.hostname}}"
  mode: 0644
  machine: [lambda, intel]
env:
  type: python_env
"""


def test_everything_is_resolved(project: Project) -> None:
    project.manifest(RESOURCES, HEAD).says("template", "words", out="""
        words:
          type: task
          machine: lambda
          command: |
            sort in.txt > box.txt
            # 5 at most
          inputs:
            - in.txt
          outputs:
            - path: words.txt
            - path: log
              volatile: true
          env:
            LIMIT: '5'
            MODE: '0644'
          needs:
            memory: 2000000000
          timeout: 5400
    """).holds("state", None)


def test_a_reference_is_a_dependency(project: Project) -> None:
    project.manifest(RESOURCES, HEAD).says("template", "count", out="""
        count:
          type: task
          machine:
            - lambda
            - intel
          stage: pack
          config:
            seq_len: 5
            lr: 0.0003
            text: '3e-4'
            none: null
            flag: true
          inputs:
            - words.log
          depends_on:
            - words
          tags:
            - small
    """)


def test_copies_that_differ_are_documents_of_their_own(project: Project) -> None:
    project.manifest(RESOURCES, HEAD).says("template", "note", out="""
        note:
          type: file
          machine: lambda
          path: /tmp/lambda
          content: box
          mode: '0644'
        ---
        note:
          type: file
          machine: intel
          path: /tmp/intel
          content: intel
          mode: '0644'
    """)
    intel = project.run("template", "note", "--machine", "intel").out
    assert intel.startswith("note:\n  type: file\n  machine: intel\n") and "---" not in intel
    assert project.run("template", "note@intel").out == intel


def test_what_follows_from_the_name_is_shown(project: Project) -> None:
    assert "  path: .albor/env/env\n" in project.manifest(RESOURCES, HEAD).run("template", "env").out


@pytest.mark.parametrize("name", ["words", "count", "env"])
def test_the_resolved_resource_means_the_same(project: Project, name: str) -> None:
    project.manifest(RESOURCES, HEAD)
    whole = load(project.root / "manifests" / "albor.yaml")
    shown = project.run("template", name).out
    others = "".join(project.run("template", other).out for other in ("words", "count", "env") if other != name)
    project.file("again.yaml", f'version: "1.0"\nname: tale\n{HEAD}resources:\n' + textwrap.indent(shown + others, "  "))
    again = load(project.root / "again.yaml")
    assert again.resources[name].fields == whole.resources[name].fields
    assert again.resources[name].machines == whole.resources[name].machines
    assert {ref.resource for ref in again.resources[name].depends_on} == {ref.resource for ref in whole.resources[name].depends_on}


@pytest.mark.parametrize("field", ["timeout", "count", "machine"])
def test_what_only_a_plan_knows_is_said_and_no_traceback(project: Project, field: str) -> None:
    value = '"{{data.d}}"'
    project.manifest(f"t: {{type: task, command: x, {field}: {value}}}", "data: {d: {type: command, value: echo 5}}\n")
    said = project.run("template", "t")
    assert (said.exit, said.out) == (1, "")
    assert said.err.startswith("error[not-known-yet]: `t` takes a number or a name from a data source\n")


def test_an_unknown_name_gets_the_closest(project: Project) -> None:
    project.manifest(RESOURCES, HEAD).says("template", "wrods", exit=1, err="""
        error[unknown-resource]: there is no resource `wrods` in manifests/albor.yaml
          = did you mean `words`?
    """).says("template", "note", "--machine", "intle", exit=1, err="""
        error[unknown-machine]: `note` is not on a machine `intle`
          = did you mean `intel`?
          = it is on: lambda, intel
    """)
