"""Watches: what a plan that found nothing to do had looked at, kept with its stamps, so that the next look is a stat a path.

    .albor/watch/<lineage>    {"version", "id", "boot", "attempts", "paths": [[path, stamp]], "again": [probe item],
                              "answers": digest of the answers}

Everything is as it was when every path has its stamp, every other question has its answer, and no attempt was begun since.
A change within 2 s of the look could leave the same stamp: then nothing is kept. Reads no bytes of a file, decides nothing.
"""

from __future__ import annotations

import os
import stat
import threading

from albor_pipeline.agent import hashing, liveness, trees
from albor_pipeline.agent.hashing import RACY_NS
from albor_pipeline.agent.layout import Layout, quote, read_json, replace_file, to_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    Answer = Callable[[Sequence[Mapping[str, Any]]], Sequence[Mapping[str, Any]]]

VERSION = 2
ABSENT = "-"


class Watch:
    """What one connection looked at so far; `spoilt` once something of it cannot be told by a stamp."""

    def __init__(self, layout: Layout, clock_ns: Callable[[], int], trusts: Callable[[int], bool]) -> None:
        self.spoilt = False
        self._layout = layout
        self._clock_ns = clock_ns
        self._trusts = trusts
        self._lock = threading.Lock()
        self._attempts: int | None = None
        self._paths: dict[str, str] = {}
        self._again: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = []

    def begin(self) -> None:
        """The attempts are about to be listed: one that begins after this is not among them."""
        self._attempts = _begun(self._layout)
        self.spoilt = self._attempts + RACY_NS >= self._clock_ns()

    def saw(self, name: str, walked: tuple[str, list[trees.Found]] | None) -> None:
        """A path was looked at, and this is what trees.walk() found there."""
        now = self._clock_ns()
        for _name, _path, info in walked[1] if walked is not None else ():
            if info.st_ctime_ns + RACY_NS >= now or not self._trusts(info.st_dev):
                self.spoilt = True
                return
        self._paths[name] = _stamp(walked)

    def answered(self, item: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """A question that no stamp answers was asked: it is asked again."""
        with self._lock:
            self._again.append((item, answer))

    def keep(self, lineage: str) -> str:
        """Write it down; its id, empty when it says too little. Raises OSError."""
        if self.spoilt or self._attempts is None:
            return ""
        name = os.urandom(8).hex()
        body = {
            "version": VERSION,
            "id": name,
            "boot": liveness.boot_id(),
            "attempts": self._attempts,
            "paths": sorted(self._paths.items()),
            "again": [item for item, _answer in self._again],
            "answers": _digest([answer for _item, answer in self._again]),
        }
        path = _place(self._layout, lineage)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        replace_file(path, to_json(body))
        return name


def holds(layout: Layout, lineage: str, name: str, answer: Answer) -> bool:
    """True when everything that the watch of this id looked at is as it was; `answer` asks the other questions."""
    body = read_json(_place(layout, lineage)) or {}
    if (body.get("version"), body.get("id"), body.get("boot")) != (VERSION, name, liveness.boot_id()):
        return False
    if body["attempts"] != _begun(layout) or any(_now(layout.path(path)) != stamp for path, stamp in body["paths"]):
        return False
    items = body["again"]
    return not items or _digest(answer(items)) == body["answers"]


def _digest(answers: Sequence[Mapping[str, Any]]) -> str:
    """Answers may hold what is nobody's business, and much of it; that they are the same is told by less."""
    from hashlib import sha256  # an agent that watches nothing starts without it

    return sha256(to_json(answers)).hexdigest()


def _place(layout: Layout, lineage: str) -> str:
    return os.path.join(layout.home, "watch", quote(lineage))


def _begun(layout: Layout) -> int:
    """A stamp that moves whenever an attempt is claimed (claims.py), and when one is made the first of its resource."""
    try:
        return os.stat(layout.attempts).st_mtime_ns
    except FileNotFoundError:
        return 0


def _now(path: str) -> str:
    try:
        info = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return _stamp(trees.walk(path))
    return _of_file(info) if stat.S_ISREG(info.st_mode) else _stamp(trees.walk(path))


def _stamp(walked: tuple[str, list[trees.Found]] | None) -> str:
    if walked is None:
        return ABSENT
    return _of_file(walked[1][0][2]) if walked[0] == "file" else trees.signature_walked(walked)


def _of_file(info: os.stat_result) -> str:
    return "%d %d %d %d %d" % hashing.stat_key(info)
