"""`fmt` puts a manifest in order on disk; it refuses what it cannot read, and `--check` writes nothing."""

from __future__ import annotations

from cli.builder import Project

UNTIDY = """
    resources:
        # what it does
        words:
            command: "true"   # nothing
            type: task
    name: tale
    version: "1.0"
"""
TIDY = """\
version: "1.0"
name: tale

resources:
  # what it does
  words:
    type: task
    command: "true"   # nothing
"""


def test_a_manifest_is_put_in_order(project: Project) -> None:
    project.file("manifests/albor.yaml", UNTIDY)
    project.says("fmt", out="manifests/albor.yaml: put in order").holds("manifests/albor.yaml", TIDY)
    project.says("fmt", out="manifests/albor.yaml: in order").says("validate", out="OK: tale (1 machine, 1 resource)")
    assert [path.name for path in (project.root / "manifests").iterdir()] == ["albor.yaml"]


def test_check_writes_nothing_and_fails(project: Project) -> None:
    project.file("manifests/albor.yaml", UNTIDY)
    before = (project.root / "manifests" / "albor.yaml").read_text()
    project.says("fmt", "--check", exit=1, out="manifests/albor.yaml: not in order").holds("manifests/albor.yaml", before)
    project.does("fmt").says("fmt", "--check", out="manifests/albor.yaml: in order")


def test_several_files_are_all_or_none(project: Project) -> None:
    project.file("a.yaml", UNTIDY).file("b.yaml", "name: [\n")
    before = (project.root / "a.yaml").read_text()
    said = project.run("fmt", "a.yaml", "b.yaml")
    assert said.exit == 1 and said.err.startswith("error[yaml]: this is not YAML\n --> b.yaml:2:1\n")
    project.holds("a.yaml", before).holds("b.yaml", "name: [\n")
    project.file("b.yaml", TIDY).says("fmt", "a.yaml", "b.yaml", out="a.yaml: put in order")
    project.says("fmt", "a.yaml", "b.yaml", out="2 files are in order.")


def test_mode_and_link_of_the_file_stay(project: Project) -> None:
    project.file("real.yaml", UNTIDY)
    (project.root / "real.yaml").chmod(0o640)
    (project.root / "link.yaml").symlink_to("real.yaml")
    project.does("fmt", "link.yaml").holds("real.yaml", TIDY)
    assert (project.root / "link.yaml").is_symlink() and (project.root / "real.yaml").stat().st_mode & 0o777 == 0o640
