"""Shell text: a value stays a value."""

from __future__ import annotations

import os
import subprocess

import pytest

from albor_pipeline.resources.shell import Script, fixed, join, lines, place, quote


def test_words_are_quoted_and_scripts_are_not() -> None:
    assert join(["rm", "-rf", "--", "a b; $(x)"]) == "rm -rf -- 'a b; $(x)'"
    assert join(["cd", "x", Script("&&"), "ls"]) == "cd x && ls"


def test_a_script_stops_at_the_first_failure() -> None:
    assert lines(join(["a"]), join(["b"])) == "set -eu\na\nb\n"


def test_a_nul_cannot_be_an_argument() -> None:
    with pytest.raises(ValueError, match="NUL"):
        quote("a\0b")


def test_our_own_text_finds_its_words_as_they_are() -> None:
    word = "it's $(x)\n`y` \\"
    text = lines(fixed('printf "%s|" "$@"', "-n", word), fixed("echo end"), fixed('printf %s "$#"', "one"))
    assert subprocess.run(["/bin/sh"], input=text, capture_output=True, text=True, check=True).stdout == f"-n|{word}|end\n1"
    with pytest.raises(ValueError, match="NUL"):
        fixed("echo", "a\0b")


def test_a_path_begins_at_the_home_folder_as_the_agent_reads_it_and_holds_nothing_else_for_a_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/srv/ann's")
    for path in ("~", "~/x", "~/a b/$(x)/~", "~root/x y", "~nobody-is-called-so/x", "~$(x)/y", "a/~", "~\n", "/x", "'~'", "~/x\ny"):
        done = subprocess.run(["sh", "-c", f"printf %s {place(path)}"], capture_output=True, text=True, check=True)
        assert done.stdout == os.path.expanduser(path)  # noqa: PTH111 (what the agent does)
