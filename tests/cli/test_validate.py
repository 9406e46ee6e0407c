"""`validate` reads the manifest alone, tells every problem at its place, and touches neither state nor machine."""

from __future__ import annotations

import os
import subprocess
import textwrap

import pytest

from cli.builder import Project

WARNED = """
words:
  type: task
  command: "true"
count:
  type: task
  command: "true"
  inputs: [wrods]
"""
WARNING = """
    {level}[path-like-name]: input `wrods` of `count` names no resource and is taken as a path
      --> manifests/albor.yaml:10:14
       |
     9 |     command: "true"
    10 |     inputs: [wrods]
       |              ^^^^^ did you mean the resource `words`?
"""
MISTAKES = """
first:
  type: task
  command: "true"
  comand: "false"
second:
  type: task
  command: "true"
  depends_on: [frist]
"""


def test_a_valid_manifest_is_counted(project: Project) -> None:
    project.chain().says("validate", out="OK: tale (1 machine, 2 resources)")


def test_nothing_is_written_and_no_machine_is_asked(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    monkeypatch.setattr(os, "fork", None)
    project.chain().manifest(WARNED)
    before = sorted((path, path.stat().st_mtime_ns) for path in project.root.rglob("*"))
    assert [project.run("validate", *more).exit for more in ([], ["--strict"], ["--json"])] == [0, 1, 0]
    assert sorted((path, path.stat().st_mtime_ns) for path in project.root.rglob("*")) == before


def test_a_warning_is_shown_and_counts_for_nothing(project: Project) -> None:
    said = project.manifest(WARNED).run("validate")
    assert (said.out, said.exit) == ("OK: tale (1 machine, 2 resources)\n", 0)
    assert said.err == textwrap.dedent(WARNING.format(level="warning")).lstrip()


def test_strict_makes_a_warning_fail(project: Project) -> None:
    said = project.manifest(WARNED).run("validate", "--strict")
    assert (said.out, said.exit) == ("", 1)
    shown = textwrap.dedent(WARNING.format(level="warning")).lstrip()
    assert said.err == f"{shown}\n1 warning. Nothing else was looked at.\n"


def test_strict_and_json_agree(project: Project) -> None:
    document = project.manifest(WARNED).json("validate", "--strict", exit=1)
    assert (document["what"], document["valid"], document["strict"], document["warnings"]) == ("validate", False, True, [])
    assert [(item["code"], item["at"]["line"]) for item in document["errors"]] == [("path-like-name", 10)]
    relaxed = project.json("validate")
    assert (relaxed["valid"], relaxed["errors"]) == (True, [])
    assert [item["code"] for item in relaxed["warnings"]] == ["path-like-name"]


def test_json_says_the_same(project: Project) -> None:
    assert project.chain().json("validate") == {
        "version": 1, "what": "validate", "valid": True, "name": "tale", "machines": 1, "resources": 2,
        "strict": False, "errors": [], "warnings": [],
    }  # fmt: skip


def test_every_mistake_is_told_at_its_place(project: Project) -> None:
    said = project.manifest(MISTAKES).run("validate")
    assert (said.exit, said.out) == (1, "")
    assert said.err.startswith("""\
error[unknown-key]: task `first` has no key `comand`
 --> manifests/albor.yaml:7:5
  |
6 |     command: "true"
7 |     comand: "false"
  |     ^^^^^^ did you mean `command`?
""")
    assert """\
error[unknown-resource]: `second` depends on `frist`, which is not declared
  --> manifests/albor.yaml:11:18
   |
10 |     command: "true"
11 |     depends_on: [frist]
   |                  ^^^^^ did you mean `first`, declared at line 4?
""" in said.err


def test_the_errors_are_counted_at_the_end(project: Project) -> None:
    assert project.manifest(MISTAKES).run("plan").err.endswith("\n2 errors. Nothing was planned.\n")


def test_mistakes_are_documents_with_json(project: Project) -> None:
    document = project.manifest(MISTAKES).json("validate", exit=1)
    assert (document["what"], document["valid"], document["name"]) == ("validate", False, None)
    assert document["errors"] == document["diagnostics"]
    assert [(item["code"], item["at"]["line"], item["at"]["column"]) for item in document["errors"]] == [
        ("unknown-key", 7, 5),
        ("unknown-resource", 11, 18),
    ]


def test_without_a_manifest_the_way_out_is_named(project: Project) -> None:
    project.says("validate", exit=64, err="""
        error[no-manifest]: there is no manifest in manifests/
          = name one, or: albor-pipeline init
    """)


def test_of_several_manifests_one_must_be_named(project: Project) -> None:
    project.file("manifests/a.yaml", "").file("manifests/b.yaml", "").says("validate", exit=64, err="""
        error[which-manifest]: there are 2 manifests: manifests/a.yaml, manifests/b.yaml
          = name the one to use
    """)


def test_a_file_that_is_not_there_is_a_sentence(project: Project) -> None:
    project.says("validate", "nope.yaml", exit=1, err="error[unreadable]: nope.yaml: no such file or directory")


FLOW = """
mix:
  type: task
  command: sort in.txt > mixed.txt
  outputs: [mixed.txt]
  completion_check: test -s mixt.txt
use:
  type: task
  command: wc -l < mixed.txt > used.txt
  inputs: [mixed.txt]
  outputs: [used.txt]
"""


def test_a_read_without_an_order_and_a_check_of_nothing_are_told_without_any_machine(project: Project) -> None:
    project.manifest(FLOW).says("validate", exit=1, err="""
        warning[unmade-path]: the completion check of `mix` reads `mixt.txt`, which nothing makes
         --> manifests/albor.yaml:8:23
          |
        7 |     outputs: [mixed.txt]
        8 |     completion_check: test -s mixt.txt
          |                       ^^^^^^^^^^^^^^^^ did you mean `mixed.txt`, an output of `mix`?

        error[undeclared-dependency]: `use` reads `mixed.txt`, which `mix` makes, and does not depend on it
          --> manifests/albor.yaml:12:14
           |
        11 |     command: wc -l < mixed.txt > used.txt
        12 |     inputs: [mixed.txt]
           |              ^^^^^^^^^
           = add `mix` to `inputs` or `depends_on`

        1 error, 1 warning. Nothing else was looked at.
    """)
    project.holds("state", None).holds(".albor", None)


def test_warnings_alone_are_errors_only_when_strict(project: Project) -> None:
    project.manifest(FLOW.replace("inputs: [mixed.txt]", "inputs: [mix]"))
    assert project.run("validate").exit == 0
    assert project.run("validate", "--strict").exit == 1
    assert [item["code"] for item in project.json("validate")["warnings"]] == ["unmade-path"]
