"""`provision plan` weighs what it would bring against the room that there is where it goes."""

from __future__ import annotations

import os
import re
import shutil

import pytest
from wheels import index, wheel

from cli.builder import Project


def sparse(project: Project, name: str, size: int) -> None:
    """A file that says that it is so long, and takes no room."""
    with (project.root / name).open("wb") as file:
        os.truncate(file.fileno(), size)


def test_what_does_not_fit_is_an_error_that_says_where_how_much_and_what_to_do(project: Project) -> None:
    free = shutil.disk_usage(project.root).free
    sparse(project, "huge", free * 9 // 10)
    project.manifest(f"""
        one: {{type: model, name: one, source: {project.root}/huge, path: models/one}}
        two: {{type: model, name: two, source: {project.root}/huge, path: {project.root}/models/two}}
        note: {{type: file, path: note, content: hello}}
    """)
    for verb in (("provision", "plan"), ("provision", "apply", "--yes")):
        said = project.run(*verb)
        assert said.exit == 1 and "error[no-space]: localhost, where " in said.err, said
        told = r"models/(one|two)\.part/files is, has N MB free, and what is to be made takes about N MB: one N MB, two N MB, note 0.0 MB\n"
        assert re.search(told.replace("N", r"[\d,.]+"), said.err) and "= free some there" in said.err, said
    assert not (project.root / "note").exists()
    project.edit("{type: model, name: two, source", "{type: model, state: absent, name: two, source")
    said = project.run("provision", "plan")
    assert said.exit == 0 and re.search(r"; 2 to converge, 0 that cannot; [\d,.]+ MB to be brought\n", said.err), said


def test_a_size_that_nobody_knows_is_said_and_hinders_nothing(project: Project) -> None:
    project.manifest("""
        env: {type: python_env, requirements: [six], index: "http://127.0.0.1:9/simple"}
        note: {type: file, path: note, content: hello}
    """)
    said = project.run("provision", "plan")
    assert said.exit == 0 and "2 to converge, 0 that cannot; 0.0 MB to be brought; size unknown: env\n" in said.err, said


@pytest.mark.slow
def test_what_no_package_index_has_is_an_error_before_anything_is_made(project: Project) -> None:
    with index(project.root / "shelf", wheel(project.root / "made", "tiny", "1.0")) as address:
        project.manifest(f"""
            env: {{type: python_env, index: "{address}", requirements: [tiny==1.0, tiny==2.0, absent]}}
            note: {{type: file, path: note, content: hello}}
        """)
        said = project.run("provision", "plan")
        assert said.exit == 1 and "2 to converge, 2 that cannot" in said.err and "secret" not in said.out + said.err, said
        told = ("no package index has version 2.0 of `tiny` for this Python: there is 1.0", "no package index has `absent`")
        assert [text for text in told if f"error[cannot-converge]: `env` on localhost: {text}\n" not in said.err] == [], said
        said = project.run("provision", "apply", "--yes")
        assert said.exit == 1 and not (project.root / "note").exists(), said
        project.edit(", tiny==2.0, absent", "")
        assert "2 to converge, 0 that cannot" in project.run("provision", "plan").err
    said = project.run("provision", "plan")
    assert said.exit == 0 and "2 to converge, 0 that cannot" in said.err, "an index that cannot be reached proves nothing"
