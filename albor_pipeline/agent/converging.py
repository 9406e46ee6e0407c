"""Converging: operations on the machine, one after the other until one fails, then a look at what came of them. Knows no kind.

What needs root is done by a child of this program that `sudo` starts, which takes the same request and gives the same reply.
"""

from __future__ import annotations

import json
import os
import sys
import threading

from albor_pipeline.agent import files, hashing, scripts, trees
from albor_pipeline.agent.attempts import remove_tree
from albor_pipeline.agent.facts import cache_folder
from albor_pipeline.agent.layout import Layout, sync_folder, to_json, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    Look = Callable[[Sequence[Mapping[str, Any]]], list[dict[str, Any]]]

READ_BYTES = 1 << 18
_locks: dict[str, threading.Lock] = {}
_guard = threading.Lock()


def converge(layout: Layout, look: Look, body: Mapping[str, Any], data: Iterator[bytes | memoryview]) -> dict[str, Any]:
    """Do `operations` in order, then look at `probes`: {"results"}, or {"failed"} with what the failing operation said.

    The bytes of the files to put come in `data`, one after another. Of requests with the same `exclusive` word one is done at a
    time. Raises OSError, FileError.
    """
    word = body.get("exclusive") or ""
    with _guard:
        lock = _locks.setdefault(word, threading.Lock()) if word else threading.Lock()
    source = files.Source(data)
    with lock:
        if body.get("sudo") and os.geteuid() != 0:
            return as_root(layout, {**body, "verb": "converge"}, data)
        for operation in body["operations"]:
            failed = _do(layout, operation, source)
            if failed is not None:
                return {"failed": failed}
        return {"results": look(body["probes"])}


def _do(layout: Layout, operation: Mapping[str, Any], source: files.Source) -> dict[str, Any] | None:
    """One operation; None, or what a script that failed said."""
    if operation["verb"] == "put":
        _put(layout.path(operation["path"]), operation, source)
        return None
    if operation["verb"] == "place":
        _place(layout, operation)
        return None
    if operation["verb"] != "sh":
        raise files.FileError("bad-spec", "this agent knows no operation %r" % (operation["verb"],))
    result = scripts.run_script(operation["script"], operation.get("timeout_s"), None, layout.workdir)
    return None if result["exit"] == 0 else {**result, "label": operation.get("label")}


def _put(path: str, operation: Mapping[str, Any], source: files.Source) -> None:
    """Raises FileError, which names the path that was meant: what failed may have been done to another, or by descriptor."""
    try:
        files.put(path, operation, source.parts(int(operation.get("size_bytes") or 0)))
    except OSError as error:
        way = "; as root it may be done: `sudo: true`" if isinstance(error, PermissionError) and os.geteuid() != 0 else ""
        raise files.FileError("io", "%s: %s%s" % (path, error.strerror, way)) from None


def _place(layout: Layout, operation: Mapping[str, Any]) -> None:
    """Rename `path` to `to`, when it has the `digest` that is given, if any; what is in `discard` goes when it has another.

    What was at `to` is gone afterwards. Raises OSError, FileError.
    """
    path, target = layout.path(operation["path"]), layout.path(operation["to"])
    digest = operation.get("digest")
    found = _digest(path) if digest else None
    if found != digest:
        for each in operation.get("discard") or ():
            remove_tree(layout.path(each))
        raise files.FileError("digest", "%s has the BLAKE3 digest %s, and %s is declared; it was removed" % (target, found, digest))
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if (os.path.isdir(target) and not os.path.islink(target)) or os.path.isdir(path):
        files.put(target, {"type": "absent"}, iter(()))
    os.rename(path, target)
    sync_folder(os.path.dirname(target))


def _digest(path: str) -> str:
    """Of a file its BLAKE3, of a folder that of its tree."""
    if os.path.isfile(path):
        return hashing.digest_file(path)
    tree = trees.read_tree(path, lambda name, _info: hashing.digest_file(name))
    return str(tree.summary()["root"]) if tree is not None else "none"


def as_root(layout: Layout, request: Mapping[str, Any], data: Iterator[bytes | memoryview]) -> dict[str, Any]:
    """The reply of a child with root's rights to a request. Raises OSError, FileError when there can be none."""
    import subprocess

    program = [sys.argv[0]] if sys.argv[0].endswith(".pyz") else ["-m", "albor_pipeline.agent"]
    options = ["--as", "root", "--workdir", layout.workdir, "--path", ":".join(folder for folder in sys.path if folder)]
    try:
        process = subprocess.Popen(
            ["sudo", "-n", "-H", "--", sys.executable, "-I", "-S", *program, *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError:
        raise files.FileError("no-sudo", "`sudo` is not installed: log in as root, or install it") from None
    assert process.stdin is not None
    with process:
        try:
            write_all(process.stdin.fileno(), to_json(dict(request)))
            for part in data:
                write_all(process.stdin.fileno(), part)
        except BrokenPipeError:
            for _part in data:
                continue
        out, err = process.communicate()
    try:
        reply: dict[str, Any] = json.loads(out)
    except ValueError:
        said = err.decode("utf-8", "replace").strip().splitlines()
        way = "let this user use `sudo` without a password, or log in as root"
        raise files.FileError("no-sudo", "root's rights were not given (%s): %s" % (said[-1] if said else "no answer", way)) from None
    if "error" in reply:
        raise files.FileError(reply["error"]["code"], reply["error"]["message"])
    return reply


def serve_as_root(workdir: str) -> int:
    """The child's part: one request on stdin, one reply on stdout. The stat cache is root's own, so that no other user's is written."""
    from albor_pipeline.agent.probe import Prober

    layout = Layout(workdir)
    layout.stat_cache = os.path.join(cache_folder(), "stat-cache")
    os.makedirs(cache_folder(), exist_ok=True)
    outgoing = os.dup(1)
    os.dup2(2, 1)
    with open(0, "rb") as incoming:
        body = json.loads(incoming.readline())
        try:
            look = Prober(layout).look
            data = iter(lambda: incoming.read(READ_BYTES), b"")
            reply = converge(layout, look, body, data) if body["verb"] == "converge" else {"results": look(body["items"])}
        except (OSError, files.FileError) as error:
            message = error.message if isinstance(error, files.FileError) else "%s: %s" % (error.filename, error.strerror)
            reply = {"error": {"code": getattr(error, "code", "io"), "message": message}}
    write_all(outgoing, to_json(reply))
    return 0
