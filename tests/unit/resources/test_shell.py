"""Shell text: a value stays a value."""

from __future__ import annotations

import subprocess

import pytest

from albor_pipeline.resources.shell import Script, fixed, join, lines, quote


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
