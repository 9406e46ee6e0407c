"""Training processes that start at once and die at a named place; asserts nothing.

Run as a program it is a server: it has loaded torch, and forks a process for each line of JSON on stdin that asks for one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support_data import ROOT

PLACES = ("begin", "step", "log", "chunk", "digest", "rename", "renamed", "prune", "model")


class Starter:
    """Asks the server."""

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self._server = server

    def start(self, folder: Path, values: dict[str, Any], place: str = "nowhere", number: int = 0) -> int:
        """The pid of a pretrain in `folder` (run-0, run-1, ... one work folder) that dies by SIGKILL at the `number`th time at `place`.

        `place` is "time" for a kill after `number` milliseconds.
        """
        count = len(list(folder.glob("run-*")))
        (folder / f"run-{count}").mkdir(parents=True)
        (folder / f"config-{count}.json").write_text(json.dumps(values))
        return int(self._ask({"folder": str(folder), "count": count, "place": place, "number": number}))

    def wait(self, pid: int) -> int:
        """Its exit status, negative for a signal."""
        return int(self._ask({"wait": pid}))

    def run(self, folder: Path, values: dict[str, Any], place: str = "nowhere", number: int = 0) -> tuple[int, str]:
        """Its exit status and what it said."""
        code = self.wait(self.start(folder, values, place, number))
        return code, said(folder)

    def _ask(self, question: dict[str, Any]) -> Any:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(question) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


@contextmanager
def starter() -> Iterator[Starter]:
    """A server, ended with the block."""
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{Path(__file__).parent}"}
    with subprocess.Popen([sys.executable, __file__], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        yield Starter(server)
        assert server.stdin is not None
        server.stdin.close()


def said(folder: Path) -> str:
    """The stderr of the last process."""
    return max(folder.glob("run-*"), key=lambda path: int(path.name[4:])).joinpath("stderr").read_text()


def dying_at(place: str, number: int) -> None:
    """Lets this process end at the `number`th call of a place, and at the latest before its model is in its place.

    Chunks of a file are small, so that there are many places in it.
    """
    from stages.lib import checkpoint, files, hf, tensors_file
    from stages.lib.row_log import RowLog
    from stages.lib.trainer import Trainer

    tensors_file._CHUNK_BYTES = 5000
    calls: list[int] = []

    def patched(owner: Any, name: str, after: bool, half: bool = False) -> None:
        original = getattr(owner, name)

        def call(*args: Any, **named: Any) -> Any:
            calls.append(1)
            if len(calls) == number and half:
                os.write(args[0], bytes(args[1][: len(args[1]) // 2]))
            if len(calls) == number and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = original(*args, **named)
            if len(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, call)

    known: dict[str, tuple[Any, ...]] = {
        "begin": (Trainer, "gradients", False), "step": (Trainer, "update", True), "log": (RowLog, "write", True),
        "chunk": (tensors_file, "_write_whole", False, True), "digest": (files, "sync_tree", False), "rename": (files, "sync_tree", True),
        "renamed": (files, "_put_in_place", True), "prune": (checkpoint, "prune", True), "model": (hf, "write", True),
    }
    if place != "nowhere":
        write = hf.write
        hf.write = lambda *args: (write(*args), os.kill(os.getpid(), signal.SIGKILL))[0]
    if place in known:
        patched(*known[place])


def _child(question: dict[str, Any]) -> int:
    from stages.lib import cli

    folder, count = Path(question["folder"]), question["count"]
    os.dup2(os.open(folder / f"run-{count}/stderr", os.O_WRONLY | os.O_CREAT), 2)
    os.dup2(2, 1)
    os.environ["ALBOR_WORK"] = str(folder / "work")
    dying_at(question["place"], question["number"])
    if question["place"] == "time":
        threading.Timer(question["number"] / 1000, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return cli.main(["pretrain", "apply", str(folder / f"config-{count}.json"), "--out", str(folder / f"run-{count}")])


def _serve() -> None:
    import safetensors.torch
    import torch._dynamo

    from stages import pretrain
    from stages.lib import checkpoint, hf, prefetch, row_log, trainer

    # Most of a start is imports, torch._dynamo above all, which every optimizer imports.
    assert all((safetensors.torch, torch._dynamo, pretrain, checkpoint, hf, prefetch, row_log, trainer))
    for line in sys.stdin:
        question = json.loads(line)
        if "wait" in question:
            print(os.waitstatus_to_exitcode(os.waitpid(question["wait"], 0)[1]), flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            try:
                code = _child(question)
            except SystemExit as stop:
                code = int(stop.code or 0)
            except KeyboardInterrupt:
                code = 130
            except BaseException:
                import traceback

                traceback.print_exc()
                code = 70
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        print(pid, flush=True)


def until(found: Any, seconds: float = 60) -> bool:
    """Whether `found()` came true in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found():
            return True
        time.sleep(0.02)
    return False


if __name__ == "__main__":
    _serve()
