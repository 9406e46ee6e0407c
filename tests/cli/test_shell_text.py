"""A command is one text: of any size, with any quote, and without a share in anybody's stdin."""

from __future__ import annotations

import pytest

from cli.builder import Project

LONG = ": " + "x" * 300_000


@pytest.mark.parametrize("before", ["", LONG])
def test_a_command_may_be_of_any_size_and_hold_any_quote(project: Project, before: str) -> None:
    lines = [before, """printf '%s' "it's \\"fine\\" \\$HOME" > out.txt""", "cat >> out.txt"]
    text = "\n".join(f"    {line}" for line in lines if line)
    project.manifest(f"t:\n  type: task\n  inputs: []\n  outputs: [out.txt]\n  command: |\n{text}\n")
    project.does("apply").holds("out.txt", 'it\'s "fine" $HOME')


def test_a_completion_check_may_be_of_any_size(project: Project) -> None:
    check = f"    {LONG}\n    test -s out.txt\n"
    project.manifest(f"t:\n  type: task\n  command: echo 1 > out.txt\n  outputs: [out.txt]\n  completion_check: |\n{check}")
    project.does("apply").holds("out.txt", "1\n")
