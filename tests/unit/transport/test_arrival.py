"""What the agent finds when it comes to a machine: which BLAKE3 is taken, and what is said when there is none that fits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from albor_pipeline.agent import arrive
from albor_pipeline.transport import arrival
from albor_pipeline.transport.faults import Unusable

SUFFIXES = [".cpython-310-x86_64-linux-gnu.so", ".so"]
TOLD = {"needs": ["blake3"], "b3sum": False, "python": "3.10", "suffixes": SUFFIXES, "platform": "Linux x86_64"}
INSTALL = [("debian", "apt-get install python3"), ("alpine", "apk add python3"), ("odd", "package manager")]


def machine(*parts: bytes) -> Callable[[], bytes]:
    """A machine that says these, and then nothing more."""
    left = list(parts)
    return lambda: left.pop(0) if left else b""


def here(**facts: object) -> bytes:
    return f"\n{arrive.HERE}{json.dumps({**TOLD, **facts})}\n".encode()


def test_nothing_is_sent_to_a_machine_that_has_everything() -> None:
    sent: list[bytes] = []
    said = here(needs=[]) + b"frames"
    assert arrival.settle(machine(b"welcome", said[:20], said[20:]), sent.append) == b"frames"
    assert sent == []


def test_a_module_that_does_not_fit_is_not_sent() -> None:
    with pytest.raises(Unusable, match=r"its Python 3.10 \(Linux x86_64\) has no BLAKE3") as error:
        arrival.settle(machine(here()), lambda data: None)
    assert "install there the module `blake3`" in error.value.ways[0]
    sent: list[bytes] = []
    arrival.settle(machine(here(b3sum=True)), sent.append)
    assert json.loads(sent[0]) == {"files": []}


def test_a_shell_that_ends_says_its_last_words() -> None:
    with pytest.raises(Unusable, match="This account is not available"):
        arrival.settle(machine(b"hello\nThis account is not available.\n"), lambda data: None)


@pytest.mark.parametrize(("system", "words"), INSTALL)
def test_a_machine_without_python_is_told_how_to_get_it(system: str, words: str) -> None:
    with pytest.raises(Unusable, match="it has no Python 3") as error:
        arrival.settle(machine(f"\n{arrival.NO_PYTHON}{system} \n".encode()), lambda data: None)
    assert words in error.value.ways[0]


def test_a_file_that_does_not_arrive_whole_is_not_kept(tmp_path: Path) -> None:
    for size, digest in ((3, "0" * 64), (9, "0" * 64)):
        read, write = os.pipe()
        os.write(write, b"abc")
        os.close(write)
        with pytest.raises(arrive.NotDone):
            arrive.receive(str(tmp_path), [{"path": "sub/x", "size_bytes": size, "sha256": digest}], read)
        os.close(read)
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_cache_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "albor").write_text("a file")
    order = {"agent": {"name": "a.pyz", "sha256": "0" * 64}, "workdir": ".", "lineage": "L", "machine": "m"}
    program = Path(arrive.__file__).read_bytes().hex()
    command = [sys.executable, "-I", "-S", "-c", arrival.RUN, program, json.dumps(order).encode().hex()]
    files = json.dumps({"files": [{"path": "a.pyz", "size_bytes": 1, "sha256": "0" * 64}]}) + "\nx"
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(command, input=files, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 1 and done.stderr.startswith("the agent cannot be put there: ") and done.stderr.count("\n") == 1
