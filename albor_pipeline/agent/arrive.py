"""The first program on a machine: lays the agent and what it needs in the user's cache folder, then becomes the agent. Stands alone.

It is given as text to an interpreter that has only the standard library, with one argument: an order as hexadecimal JSON,
{"agent": {"name", "sha256"}, "workdir", "lineage", "machine", "again"}. It says one line on stdout, HERE and a JSON object with what it
needs. When that is anything, one line of JSON comes back on stdin, {"files": [{"path", "size_bytes", "sha256"}]}, and then the
bytes of these files. A file is written under a random name, compared with its digest, and renamed. `again` is a second connection,
to which nothing is sent any more.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from importlib import machinery, util

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

HERE = "albor-agent here "
CHUNK_BYTES = 1 << 18


class NotDone(Exception):
    """What was sent cannot be used here; the text says why."""


def cache_folder() -> str:
    """As agent/facts.py says it."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "albor")


def digest_of(path: str) -> str:
    """SHA-256 of a file, which every interpreter has; empty when it cannot be read."""
    hasher = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while data := file.read(CHUNK_BYTES):
                hasher.update(data)
    except OSError:
        return ""
    return hasher.hexdigest()


def fits(folder: str) -> bool:
    """Whether a folder holds a blake3 module that was built for this interpreter."""
    suffixes = [suffix for suffix in machinery.EXTENSION_SUFFIXES if suffix != ".so"]
    try:
        names = os.listdir(os.path.join(folder, "blake3"))
    except OSError:
        return False
    return "__init__.py" in names and any(name.endswith(tuple(suffixes)) for name in names)


def module_folder(cache: str) -> str:
    """The folder to put on the path for blake3; empty when there is none."""
    try:
        sent = sorted(name for name in os.listdir(cache) if name.startswith("blake3-"))
    except OSError:
        sent = []
    for name in sent:
        if fits(os.path.join(cache, name)):
            return os.path.join(cache, name)
    import site

    site.main()
    found = util.find_spec("blake3")
    return os.path.dirname(os.path.dirname(found.origin)) if found is not None and found.origin else ""


def has_b3sum() -> bool:
    """Whether the program is there, which does the same more slowly."""
    import shutil

    return shutil.which("b3sum") is not None


def receive(cache: str, files: list[dict[str, Any]], descriptor: int = 0) -> None:
    """Write the files as they come. Raises NotDone, OSError; a file is there whole or not at all."""
    for item in files:
        path = os.path.join(cache, item["path"])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = "%s.%s.tmp" % (path, os.urandom(6).hex())
        try:
            with open(temporary, "wb") as file:
                _copy(descriptor, file.fileno(), item["size_bytes"])
                os.fsync(file.fileno())
            if digest_of(temporary) != item["sha256"]:
                raise NotDone("%s did not arrive as it was sent" % item["path"])
            os.rename(temporary, path)
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)


def _copy(source: int, target: int, left: int) -> None:
    while left:
        data = os.read(source, min(left, CHUNK_BYTES))
        if not data:
            raise NotDone("the connection ended in the middle of a file")
        left -= len(data)
        while data:
            data = data[os.write(target, data) :]


def read_line(descriptor: int = 0) -> bytes:
    """One line and not a byte more."""
    line = bytearray()
    while not line.endswith(b"\n"):
        data = os.read(descriptor, 1)
        if not data:
            raise NotDone("the connection ended before the agent was there")
        line += data
    return bytes(line)


def loads(folder: str) -> bool:
    """Whether the module that was sent works here."""
    sys.path.insert(0, folder)
    try:
        import blake3  # noqa: F401 (to see whether it loads)
    except ImportError:
        return False
    return True


def settle(cache: str, order: dict[str, Any]) -> list[str]:
    """Make everything be there; the command that becomes the agent. Raises NotDone, OSError."""
    agent = os.path.join(cache, order["agent"]["name"])
    folder = module_folder(cache)
    needs = ["agent"] if digest_of(agent) != order["agent"]["sha256"] else []
    if order.get("again"):
        if needs:
            raise NotDone("it is not there any more")
    elif not folder:
        needs.append("blake3")
    told = {
        "needs": needs,
        "b3sum": not folder and has_b3sum(),
        "python": "%d.%d" % sys.version_info[:2],
        "suffixes": machinery.EXTENSION_SUFFIXES,
        "platform": "%s %s" % (os.uname().sysname, os.uname().machine),
    }
    sys.stdout.write("\n" + HERE + json.dumps(told) + "\n")
    sys.stdout.flush()
    if needs:
        receive(cache, json.loads(read_line())["files"])
        folder = folder or module_folder(cache)
        if folder.startswith(cache) and not loads(folder):
            if not has_b3sum():
                raise NotDone("the BLAKE3 module that was sent does not load here: install the module `blake3`, or `b3sum`")
            folder = ""
    workdir = os.path.join(os.path.expanduser("~"), os.path.expanduser(order["workdir"]))
    options = ["--workdir", workdir, "--lineage", order["lineage"], "--machine", order["machine"], "--path", folder]
    return [sys.executable, "-I", "-S", agent, *options]


def main() -> NoReturn:
    """Become the agent, or say in one line why not."""
    try:
        command = settle(cache_folder(), json.loads(bytes.fromhex(sys.argv[2])))
        os.execv(command[0], command)
    except NotDone as error:
        text = str(error)
    except OSError as error:
        text = "%s: %s" % (error.filename or "the connection", error.strerror)
    sys.stderr.write("the agent cannot be put there: %s\n" % text)
    sys.stderr.flush()
    os._exit(1)


if __name__ == "__main__":
    main()
