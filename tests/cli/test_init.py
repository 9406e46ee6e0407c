"""`init` writes a manifest that runs as it stands, and overwrites nothing."""

from __future__ import annotations

import json
import re

from cli.builder import Project


def test_init_writes_a_manifest_that_applies_as_it_stands(project: Project) -> None:
    project.says("init", out="""
        Wrote manifests/albor.yaml.
        To see what it would do: albor-pipeline plan manifests/albor.yaml
    """)
    project.does("apply")
    project.holds("data/greeting.txt", "hello\n").holds("data/count.txt", "6\n").holds(".gitignore", "/state/\n/.albor/\n")


def test_init_makes_a_folder_and_leaves_an_ignore_file_alone(project: Project) -> None:
    project.file("new/place/.gitignore", "mine\n")
    project.says("init", "new/place", out="""
        Wrote new/place/manifests/albor.yaml.
        To see what it would do: albor-pipeline plan new/place/manifests/albor.yaml
    """)
    project.holds("new/place/.gitignore", "mine\n")


def test_init_refuses_to_overwrite_a_manifest(project: Project) -> None:
    project.file("manifests/albor.yaml", "mine\n")
    project.says("init", exit=64, err="error[exists]: ROOT/manifests/albor.yaml exists already; nothing was written")
    project.holds("manifests/albor.yaml", "mine\n")


def test_editors_find_the_schema_of_the_manifest_that_init_makes(project: Project) -> None:
    project.does("init")
    found = re.match(r"# yaml-language-server: \$schema=(\S+)\n", (project.root / "manifests/albor.yaml").read_text())
    assert found
    schema = (project.root / "manifests" / found[1]).read_text()
    assert schema == project.run("schema").out
    assert json.loads(schema)["title"] == "albor-pipeline manifest"


def test_init_leaves_a_schema_that_is_there_alone(project: Project) -> None:
    project.file("manifests/manifest.schema.json", "mine\n").does("init")
    project.holds("manifests/manifest.schema.json", "mine\n")
