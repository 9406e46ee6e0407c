"""Files that are no manifest, by accident or on purpose: a sentence and exit 1, never a traceback, little time and little memory.

Each runs in a process of its own; its processor seconds and its peak memory are read when it ends.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.builder import Project

LIMIT_S = 6.0  # 2 s on an idle machine; processor seconds grow where two processes share one core
LIMIT_MB = 500
HEAD = 'version: "1.0"\nname: x\nresources:\n'
FILE = "manifests/albor.yaml"


def resources(text: str) -> bytes:
    return (HEAD + text).encode()


def many(line: str, count: int) -> bytes:
    return resources("".join(f"  {line}\n".replace("#", str(index)) for index in range(count)))


LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 30))
RING = HEAD + "".join(f"  t{i}: {{type: task, command: a, depends_on: [t{(i + 1) % 20_000}]}}\n" for i in range(20_000))
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty"),
    "only spaces": (b"   \n\n", "empty"),
    "a list": (b"- a\n", "empty"),
    "binary": (bytes(range(256)) * 400, "not-text"),
    "UTF-16": (resources("").decode().encode("utf-16"), "not-text"),
    "another coding": (b"name: \xe9\n", "not-text"),
    "NUL": (b"name: \0\n", "yaml"),
    "an escape character": (b"name: \x1b[31m\n", "yaml"),
    "half a surrogate pair": (b'name: "\\ud800"\n', "yaml"),
    "tabs": (resources("\tt:\n\t\ttype: task\n"), "yaml"),
    "10 MB of nested lists": (b"[" * 10_000_000, "too-deep"),
    "10 MB of nested mappings": (b"{a: " * 2_500_000, "too-deep"),
    "10 MB of nested entries": (b"- " * 5_000_000, "too-deep"),
    "10 MB of closed lists": (b"a: " + b"[" * 5_000_000 + b"]" * 5_000_000, "too-deep"),
    "deep indentation": ("".join(" " * depth + "a:\n" for depth in range(3000)).encode(), "too-deep"),
    "anchors that explode": (LAUGHS.encode(), "too-large"),
    "an anchor in itself": (b"a: &a [*a]\n", "yaml"),
    "40 MB": (b"# " + b"x" * (40 << 20), "too-large"),
    "a tag": (b"a: !!python/object:os.system x\n", "yaml"),
    "two documents": (b"a: b\n---\nc: d\n", "yaml"),
    "duplicate keys": (resources("  t: {type: task, command: a, command: b}\n"), "duplicate-key"),
    "20,000 duplicates": (many("t: {type: task, command: a}", 20_000), "duplicate-key"),
    "20,000 unknown keys": (many("t#: {type: task, command: a, zork#: b}", 20_000), "unknown-key"),
    "20,000 unknown names": (many("t#: {type: task, command: a, depends_on: [tt#]}", 20_000), "unknown-resource"),
    "wrong types": (resources("  t: {type: task, command: [a], inputs: 3, needs: x, timeout: {a: b}, env: []}\n"), "wrong-type"),
    "a cycle of 20,000": (RING.encode(), "cycle"),
    "a key of 1 MB": (resources(f"  ? {'n' * 1_000_000}\n  : {{type: task}}\n"), "bad-name"),
    "a type of 1 MB": (resources(f"  t: {{type: {'x' * 1_000_000}}}\n"), "unknown-type"),
    "a path of 1 MB": (resources(f"  t: {{type: task, command: a, inputs: ['{'a/' * 500_000}']}}\n"), "wrong-value"),
    "a path of 2,000 folders": (resources(f"  t: {{type: task, command: a, inputs: ['{'a/' * 2000}b']}}\n"), "wrong-value"),
    "1 MB of templates": (resources(f"  t: {{type: task, command: '{'{{params.a}}' * 80_000}'}}\n"), "unknown-param"),
    "a dependency of 1 MB": (resources(f"  t: {{type: task, command: a, depends_on: ['{'x' * 1_000_000}']}}\n"), "unknown-resource"),
    "right-to-left text": (resources("  t: {type: task, \u202ecomand: '\u05d0\u202e\u2066x'}\n"), "unknown-key"),
}
GOOD: dict[str, bytes] = {
    "BOM": b"\xef\xbb\xbf" + resources("  t: {type: task, command: 'true'}\n"),
    "CRLF": resources("  t:\n    type: task\n    command: |\n      true\n      true; true\n").replace(b"\n", b"\r\n"),
    "a command of 1 MB": resources(f"  t: {{type: task, command: 'echo {'x;' * 500_000}'}}\n"),
    "50,000 inputs": resources(f"  t: {{type: task, command: a, inputs: [{','.join(f'a/{i}' for i in range(50_000))}]}}\n"),
    "2,000 globs in one folder": many("t#: {type: task, command: a, outputs: ['*/#*']}", 2000),
    "checks of nothing": many("t#: {type: task, command: a, outputs: [o/#], completion_check: test -s q/#}", 2000),
}


def validate(project: Project, path: str, *more: str) -> tuple[int, str, float, float]:
    """Exit code, stderr, processor seconds and peak megabytes of `validate`, all its children counted."""
    command = [sys.executable, "-m", "albor_pipeline", "validate", path, *more]
    with (project.root / "said").open("wb") as said:
        process = subprocess.Popen(command, cwd=project.root, stdout=subprocess.DEVNULL, stderr=said)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    text = (project.root / "said").read_text(errors="replace")
    return process.returncode, text, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


@pytest.mark.parametrize("name", BAD)
def test_it_is_refused_with_its_name_and_soon(project: Project, name: str) -> None:
    data, code = BAD[name]
    project.file(FILE, "")
    (project.root / FILE).write_bytes(data)
    exit, text, seconds, megabytes = validate(project, FILE)
    assert (exit, text.startswith(f"error[{code}]") or f"\nerror[{code}]" in text) == (1, True), text[:500]
    assert "Traceback" not in text and "\x1b" not in text and "\u202e" not in text
    assert seconds < LIMIT_S and megabytes < LIMIT_MB


@pytest.mark.parametrize("name", GOOD)
def test_odd_but_honest_files_are_read_soon(project: Project, name: str) -> None:
    project.file(FILE, "")
    (project.root / FILE).write_bytes(GOOD[name])
    exit, text, seconds, megabytes = validate(project, FILE)
    assert exit == 0, text[:500]
    assert seconds < LIMIT_S and megabytes < LIMIT_MB


def loop(root: Path) -> None:
    (root / "bad.yaml").symlink_to("bad.yaml")


def folder(root: Path) -> None:
    (root / "bad.yaml").mkdir()


def below_a_file(root: Path) -> None:
    (root / "bad.yaml").write_text("")


@pytest.mark.parametrize(
    ("make", "path", "why"),
    [
        (loop, "bad.yaml", "too many levels of symbolic links"),
        (folder, "bad.yaml", "is a directory"),
        (below_a_file, "bad.yaml/x", "not a directory"),
        (below_a_file, "gone.yaml", "no such file or directory"),
        (below_a_file, "x" * 5000, "file name too long"),
    ],
)
def test_a_path_that_is_no_file_is_a_sentence(project: Project, make: Callable[[Path], None], path: str, why: str) -> None:
    make(project.root)
    for verb in ("validate", "plan"):
        said = project.run(verb, path)
        assert (said.exit, said.out, said.err) == (1, "", f"error[unreadable]: {path}: {why}\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file, whatever its mode")
def test_a_file_that_may_not_be_read_is_a_sentence(project: Project) -> None:
    project.chain()
    (project.root / FILE).chmod(0)
    assert project.run("validate").err == f"error[unreadable]: {FILE}: permission denied\n"


def test_an_input_that_is_a_loop_of_links_is_told_by_plan(project: Project) -> None:
    project.manifest("t: { type: task, command: cat loop, inputs: [loop] }")
    (project.root / "loop").symlink_to("loop")
    said = project.run("plan")
    assert said.exit in (0, 1) and "Traceback" not in said.err
