"""Path patterns: what matches, and that none of them is slow."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from albor_pipeline.manifest.patterns import PathPattern


@pytest.mark.parametrize(
    ("pattern", "path", "found"),
    [
        ("/etc/shadow", "/etc/shadow", True),
        ("/etc/shadow", "/etc/shadow-", False),
        ("/etc/*", "/etc/hosts", True),
        ("/etc/*", "/etc/ssl/key", False),
        ("/etc/*/key", "/etc/ssl/key", True),
        ("/etc/*/key", "/etc/a/b/key", False),
        ("/srv/**", "/srv/a/b", True),
        ("/srv/**", "/srv", False),
        ("/srv/**/key", "/srv/a/b/key", True),
        ("**/key", "/key", True),
        ("/a?c", "/abc", True),
        ("/a?c", "/a/c", False),
        ("/a.c", "/abc", False),
        ("/a[b]", "/a[b]", True),
        ("*", "", True),
    ],
)
def test_a_path_matches_a_pattern_as_a_whole(pattern: str, path: str, found: bool) -> None:
    assert PathPattern(pattern).matches(path) is found


@given(st.text("ab/*?", max_size=8), st.text("ab/", max_size=8))
def test_a_pattern_means_what_the_same_regular_expression_means(pattern: str, path: str) -> None:
    meanings = {"?": "[^/]", "*": "[^/]*"}
    parts = [meanings.get(word, ".*" if "*" in word else re.escape(word)) for word in re.findall(r"\*+|.", pattern)]
    assert PathPattern(pattern).matches(path) == bool(re.fullmatch("".join(parts), path))


def test_no_pattern_makes_a_path_slow() -> None:
    begin = time.process_time()
    assert not PathPattern("/" + "*a" * 2_000 + "b").matches("/" + "a" * 4_000)
    assert time.process_time() - begin < 0.5
