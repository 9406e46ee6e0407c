"""Starting attempts through the spawner, and telling the controller of their ends. Forks nothing itself; knows no other verb."""

from __future__ import annotations

import json
import os
import sys
import time

from albor_pipeline.agent import attempts, liveness, logs, spawner
from albor_pipeline.agent.layout import Layout, quote, utc
from albor_pipeline.agent.slots import KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

POLL_S = 0.05
SLOW_POLL_S = 0.5
MAX_RESPAWNS = 20


def check_spec(spec: Mapping[str, Any]) -> None:
    """Raise AttemptError `bad-spec` that names the first field of a start request that cannot be used."""

    def need(good: bool, text: str) -> None:
        if not good:
            raise attempts.AttemptError("bad-spec", "start: " + text)

    for key in ("resource", "fingerprint", "lineage", "run"):
        need(isinstance(spec.get(key), str), "`%s` must be text" % key)
    quote(spec["resource"])
    need(len(spec["fingerprint"]) >= 12 and spec["fingerprint"].isalnum(), "`fingerprint` must be a hex digest")
    for key in ("argv", "completion_check"):
        words = spec.get(key)
        optional = key != "argv" or spec.get("stages")
        need((words is None and optional) or _texts(words), "`%s` must be a list of words" % key)
    for stage in spec.get("stages") or []:
        need(isinstance(stage.get("name"), str) and _texts(stage.get("argv")), "a stage must have a `name` and an `argv`")
    gate = spec.get("quality_gate") or {"on_fail": "block"}
    need(gate.get("on_fail") in ("block", "warn", "skip_dependents"), "`on_fail` of the quality gate is none of the known")
    need(gate.get("command") is None or _texts(gate["command"]), "`command` of the quality gate must be a list of words")
    env = spec.get("env") or {}
    need(isinstance(env, dict) and _texts([*env, *env.values(), "x"]), "`env` must map names to texts")
    need(not any("=" in key or not key for key in env), "a name in `env` is empty or holds `=`")
    for name in spec.get("files") or {}:
        parts = name.split("/")
        need(
            bool(name) and not name.startswith("/") and ".." not in parts and "" not in parts, "bad file name %r" % name
        )
        need(
            parts[0] not in ("spec", "alive", "pid", "proof", "exit", "ack", "log", "cancel"),
            "`files` may not hold %r" % name,
        )
    for key in ("outputs", "inputs"):
        good = all(
            isinstance(item, dict) and isinstance(item.get("path"), str) and item["path"]
            for item in spec.get(key) or []
        )
        need(good, "`%s` must be a list of objects with a path" % key)
    for name in ("needs", "total") if spec.get("total") is not None else ():
        for kind in KINDS:
            value = (spec.get(name) or {}).get(kind)
            good = (value is None and name == "needs") or (isinstance(value, int) and value >= 0)
            need(good, "`%s` of `%s` must be a count" % (kind, name))
    need(all(isinstance(one, str) and one for one in spec.get("secrets") or []), "`secrets` must be a list of texts")
    device = (spec.get("needs") or {}).get("gpu_device")
    need(device is None or (isinstance(device, int) and device >= 0), "`gpu_device` must be the number of a card")
    for key in ("timeout_s", "grace_s", "heartbeat_s"):
        need(spec.get(key) is None or isinstance(spec[key], (int, float)), "`%s` must be a number" % key)


def _texts(words: object) -> bool:
    return isinstance(words, list) and bool(words) and all(isinstance(word, str) and "\0" not in word for word in words)


class Spawning:
    """The agent's side of the spawner's two pipes; started anew, by exec, when the spawner is gone."""

    def __init__(self, requests: int, replies: int) -> None:
        self._respawns = 0
        self.scope: list[str] = []
        self._buffer = bytearray()
        self._lines = bytearray()
        self._adopt(requests, replies)

    def _adopt(self, requests: int, replies: int) -> None:
        self.requests, self.replies = requests, replies
        os.set_blocking(requests, False)
        os.set_blocking(replies, False)
        self._buffer.clear()
        self._lines.clear()

    def ask(self, token: int, spec: Mapping[str, Any]) -> None:
        """Queue one request and write what the pipe takes."""
        self._buffer += spawner.request(token, spec)
        self.flush()

    @property
    def wants_write(self) -> bool:
        return bool(self._buffer)

    def flush(self) -> None:
        """Write queued requests; a dead spawner shows at the other pipe."""
        try:
            while self._buffer:
                del self._buffer[: os.write(self.requests, self._buffer)]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._buffer.clear()

    def read(self) -> list[dict[str, Any]] | None:
        """What spawner and supervisors said; None when all who could still claim are gone."""
        try:
            data = os.read(self.replies, 1 << 20)
        except BlockingIOError:
            return []
        if not data:
            return None
        self._lines += data
        *whole, rest = bytes(self._lines).split(b"\n")
        self._lines = bytearray(rest)
        return [json.loads(line) for line in whole]

    def respawn(self) -> None:
        """Start another spawner in a fresh interpreter (this process may have threads). Raises OSError after too many."""
        import subprocess

        os.close(self.requests)
        os.close(self.replies)
        self._respawns += 1
        if self._respawns > MAX_RESPAWNS:
            raise OSError("the process that starts attempts was killed %d times" % MAX_RESPAWNS)
        request_read, request_write = os.pipe()
        reply_read, reply_write = os.pipe()
        ends = "%d,%d" % (request_read, reply_write)
        words = getattr(sys, "orig_argv", ["", "-I", "-S", *sys.argv])[1:]
        command = [*self.scope, sys.executable, *words, "--spawner", ends]
        try:
            subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(request_read, reply_write))
        except FileNotFoundError:
            subprocess.Popen(command[len(self.scope) :], stdin=subprocess.DEVNULL, pass_fds=(request_read, reply_write))
        self.scope = []
        os.close(request_read)
        os.close(reply_write)
        self._adopt(request_write, reply_read)


class Tail:
    """A log that is being followed."""

    def __init__(self, folder: str, offset: int) -> None:
        self.path = os.path.join(folder, "log")
        self.folder = folder
        self.offset = offset
        self.ended = False

    def read(self, limit: int) -> bytes:
        """The next bytes; a gap (a punched hole) is named in the text."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            begin, data = logs.read_from(descriptor, self.offset, limit)
        finally:
            os.close(descriptor)
        gap = (
            b"" if begin == self.offset else b"\nalbor: %d bytes of the log were dropped here\n" % (begin - self.offset)
        )
        self.offset = begin + len(data)
        return gap + data if data else b""


class Starts:
    """Attempts under way: those asked for, those of our spawner, those of earlier agents that are watched."""

    def __init__(
        self, layout: Layout, spawning: Spawning, answer: Callable[..., None], event: Callable[..., None]
    ) -> None:
        self._layout = layout
        self.spawning = spawning
        self._answer = answer
        self._event = event
        self._token = 0
        self._asked: dict[int, tuple[int, dict[str, Any]]] = {}
        self._owned: dict[int, str] = {}
        self._watched: dict[str, float] = {}
        self._unsupervised: set[str] = set()

    def start(self, request: int, spec: Mapping[str, Any]) -> None:
        """Ask for an attempt; the answer follows once it is claimed or refused. Raises AttemptError."""
        check_spec(spec)
        expected = spec.get("number") or attempts.next_number(self._layout, spec["resource"])
        body = {**spec, "expected": expected, "at_utc": utc()}
        self._token += 1
        self._asked[self._token] = (request, body)
        self.spawning.ask(self._token, body)

    def hear(self) -> None:
        """Take in what spawner and supervisors said."""
        lines = self.spawning.read()
        if lines is None:
            self._spawner_is_gone()
            return
        for line in lines:
            token = line["token"]
            if token in self._asked:
                request, _spec = self._asked.pop(token)
                if "number" in line:
                    self._owned[token] = os.path.join(self._layout.workdir, line["folder"])
                    self._answer(request, {"number": line["number"], "folder": line["folder"]})
                else:
                    text = line.get("message") or "its supervisor ended before it could claim"
                    self._answer(request, None, line.get("code") or "io", text, line.get("attempt"))
            elif line.get("gone") and token in self._owned:
                self.look(self._owned.pop(token))

    def _spawner_is_gone(self) -> None:
        for folder in self._owned.values():
            self._watched[folder] = 0.0
        self._owned.clear()
        self.spawning.respawn()
        asked, self._asked = self._asked, {}
        for token, (request, spec) in asked.items():
            self._asked[token] = (request, spec)
            self.spawning.ask(token, spec)

    def watch(self, folder: str) -> None:
        """Tell of the end of an attempt that this agent did not start, at once when it has ended."""
        if folder not in self._owned.values():
            self.look(folder)

    def look(self, folder: str) -> None:
        """Send the event of an attempt's end, or go on watching it."""
        attempt = attempts.describe(self._layout, folder)
        if attempt is None:
            self._watched.pop(folder, None)
            return
        how = attempt["liveness"]
        if how not in attempts.RUNNING:
            self._watched.pop(folder, None)
            self._unsupervised.discard(folder)
            self._event("ended", attempt)
            return
        if how != attempts.ALIVE and folder not in self._unsupervised:
            self._unsupervised.add(folder)
            self._event("unsupervised", attempt)
        self._watched[folder] = time.monotonic() + (POLL_S if how == attempts.ALIVE else SLOW_POLL_S)

    def tick(self) -> float | None:
        """Look at what is watched and due; seconds until the next look, None when nothing is watched."""
        now = time.monotonic()
        for folder, due in list(self._watched.items()):
            if now < due:
                continue
            if os.path.exists(os.path.join(folder, "exit")) or not liveness.lock_is_held(os.path.join(folder, "alive")):
                self.look(folder)
            else:
                self._watched[folder] = now + POLL_S
        return max(0.0, min(self._watched.values()) - now) if self._watched else None
