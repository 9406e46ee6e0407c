"""Files by the agent's hand: stat, list, write whole, read, and code folders by digest. Knows no attempts.

Whatever is written appears by rename, complete and durable, with its owner and mode already set.
"""

from __future__ import annotations

import os

from albor_pipeline.agent import hashing
from albor_pipeline.agent.attempts import remove_tree
from albor_pipeline.agent.layout import Layout, sync_folder, temporary, unlink, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

READ_BYTES = 128 * 1024
_TYPES = {0o100000: "file", 0o040000: "dir", 0o120000: "link"}


class FileError(Exception):
    """A request about files that cannot be done, with a stable code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def stat(path: str, digest: Callable[[str, os.stat_result], str]) -> dict[str, Any]:
    """{"found", "type", "mode", "owner", "group", "size_bytes", "target", "digest"}; a link is not followed. Raises OSError."""
    try:
        info = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return {"found": False}
    kind = _TYPES.get(info.st_mode & 0o170000, "other")
    return {
        "found": True,
        "type": kind,
        "mode": "%04o" % (info.st_mode & 0o7777),
        "owner": owner(info.st_uid),
        "group": _group(info.st_gid),
        "size_bytes": info.st_size,
        "target": os.readlink(path) if kind == "link" else None,
        "digest": digest(path, info) if kind == "file" else None,
    }


def owner(number: int) -> str:
    """The name of a user, the number where it has none."""
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    import grp

    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def listing(path: str) -> list[dict[str, Any]]:
    """What a folder holds, by name: type, bytes, mtime in ns. Raises OSError."""
    found = []
    with os.scandir(path) as entries:
        for entry in entries:
            info = entry.stat(follow_symlinks=False)
            kind = _TYPES.get(info.st_mode & 0o170000, "other")
            found.append({"name": entry.name, "type": kind, "size_bytes": info.st_size, "mtime_ns": info.st_mtime_ns})
    return sorted(found, key=lambda item: str(item["name"]))


def put(path: str, spec: Mapping[str, Any], data: Iterator[bytes | memoryview]) -> dict[str, Any]:
    """Make `path` a file with these bytes, a `dir`, a `link` to `target` or `absent`; `vacant` takes a folder away that is empty.

    Raises OSError, FileError.
    """
    kind = spec.get("type") or "file"
    if kind == "vacant":
        return _put_vacant(path)
    if kind == "absent":
        if os.path.lexists(path):
            _refuse_root(path)
            _refuse_mounts(path)
            remove_tree(path)
        return {"size_bytes": 0, "digest": None}
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if kind == "dir":
        if os.path.lexists(path) and not os.path.isdir(path):
            raise FileError("not-a-folder", "%s is there and is not a folder" % path)
        os.makedirs(path, exist_ok=True)
        _dress(path, None, spec)
        return {"size_bytes": 0, "digest": None}
    if os.path.isdir(path) and not os.path.islink(path):
        raise FileError("is-a-folder", "%s is a folder" % path)
    if kind == "link":
        return _put_link(path, spec)
    if kind != "file":
        raise FileError("bad-type", "put: unknown type %r" % kind)
    return _put_file(path, spec, data)


def _put_vacant(path: str) -> dict[str, Any]:
    """Take away a folder that holds nothing; one that does is an error, and so is what is no folder."""
    if os.path.lexists(path):
        inside = sorted(os.listdir(path))
        if inside:
            more = " and %d more" % (len(inside) - 1) if len(inside) > 1 else ""
            raise FileError("not-empty", "%s stays: it holds %s%s, which is not ours" % (path, inside[0], more))
        os.rmdir(path)
    return {"size_bytes": 0, "digest": None}


def _put_link(path: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    name = temporary(path)
    os.symlink(spec["target"], name)
    os.rename(name, path)
    sync_folder(os.path.dirname(path))
    return {"size_bytes": 0, "digest": None}


def _put_file(path: str, spec: Mapping[str, Any], data: Iterator[bytes | memoryview]) -> dict[str, Any]:
    name = temporary(path)
    hasher, size = hashing.new_hasher(), 0
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        for part in data:
            hasher.update(part)
            write_all(descriptor, part)
            size += len(part)
        digest = hasher.hexdigest()
        if spec.get("digest") not in (None, digest):
            raise FileError("digest", "%s: other bytes arrived than were announced" % path)
        _dress(name, descriptor, spec)
        os.fsync(descriptor)
        os.rename(name, path)
    except BaseException:
        unlink(name)
        raise
    finally:
        os.close(descriptor)
    sync_folder(os.path.dirname(path))
    return {"size_bytes": size, "digest": digest}


def _dress(path: str, descriptor: int | None, spec: Mapping[str, Any]) -> None:
    target: int | str = path if descriptor is None else descriptor
    owner, group = spec.get("owner"), spec.get("group")
    if owner or group:
        os.chown(target, _uid(owner), _gid(group))
    mode = spec.get("mode")
    if mode is not None:
        os.chmod(target, int(str(mode), 8))
    elif descriptor is not None:
        os.chmod(target, 0o644)


def _uid(name: str | None) -> int:
    import pwd

    if not name:
        return -1
    try:
        return int(name) if name.isdigit() else pwd.getpwnam(name).pw_uid
    except KeyError:
        raise FileError("no-user", "there is no user %s here" % name) from None


def _gid(name: str | None) -> int:
    import grp

    if not name:
        return -1
    try:
        return int(name) if name.isdigit() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise FileError("no-group", "there is no group %s here" % name) from None


def _refuse_root(path: str) -> None:
    if path == "/" or os.path.ismount(path) or path == os.path.expanduser("~"):
        raise FileError("refused", "%s is not removed: it is a root, a mount or a home" % path)


def _refuse_mounts(path: str) -> None:
    """What is mounted below a folder is not a part of it, and may be the data of another machine."""
    below = os.path.realpath(path) + "/"
    with open("/proc/self/mounts", "rb") as file:
        points = [os.fsdecode(_plain(line.split(b" ")[1])) for line in file]
    found = next((point for point in points if point.startswith(below)), None)
    if found is not None and not os.path.islink(path):
        raise FileError("refused", "%s is not removed: %s is mounted below it" % (path, found))


def _plain(word: bytes) -> bytes:
    """A path of the kernel's list, in which blanks and backslashes are written as octal numbers."""
    import re

    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), word)


def read(path: str, start: int, limit: int | None) -> Iterator[bytes]:
    """A file's bytes in parts. Raises OSError."""
    with open(path, "rb") as file:
        file.seek(start)
        left = limit if limit is not None else 1 << 62
        while left > 0:
            part = file.read(min(READ_BYTES, left))
            if not part:
                return
            left -= len(part)
            yield part


def code_folder(layout: Layout, digest: str) -> str:
    """Where the code of that digest lies. Raises FileError for what is no digest."""
    if not digest.isalnum() or len(digest) < 16:
        raise FileError("bad-digest", "a code digest must be hex")
    return os.path.join(layout.code, digest)


def put_code(layout: Layout, digest: str, files: Sequence[Mapping[str, Any]], data: Iterator[bytes | memoryview]) -> dict[str, Any]:
    """Lay out a code folder: `files` are {"path", "digest", "size_bytes", "x"}, `data` their bytes one after another.

    Every digest is verified before the folder gets its name; one that is there already is left alone.
    Raises OSError, FileError.
    """
    folder = code_folder(layout, digest)
    if os.path.isdir(folder):
        for _part in data:
            continue
        return {"folder": layout.relative(folder), "made": False}
    os.makedirs(layout.code, exist_ok=True)
    building = temporary(folder)
    os.mkdir(building)
    try:
        source = Source(data)
        for item in files:
            _put_code_file(building, item, source.take(item["size_bytes"]))
        for place, _folders, _names in os.walk(building):
            sync_folder(place)
        try:
            os.rename(building, folder)
        except OSError:
            if not os.path.isdir(folder):
                raise
    finally:
        remove_tree(building)
    sync_folder(layout.code)
    return {"folder": layout.relative(folder), "made": True}


def _put_code_file(building: str, item: Mapping[str, Any], content: bytes) -> None:
    name = item["path"]
    if name.startswith("/") or ".." in name.split("/"):
        raise FileError("bad-name", "a code file must lie in its folder: %r" % name)
    if hashing.digest_bytes(content) != item["digest"]:
        raise FileError("digest", "%s: other bytes arrived than were announced" % name)
    path = os.path.join(building, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o555 if item.get("x") else 0o444)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Source:
    """Takes exact lengths out of parts of any length; raises FileError when there are fewer bytes than that."""

    def __init__(self, data: Iterator[bytes | memoryview]) -> None:
        self._data = data
        self._held: bytes | memoryview = b""

    def parts(self, size_bytes: int) -> Iterator[bytes | memoryview]:
        """So many bytes, in parts as they arrive."""
        while size_bytes > 0:
            part = self._held or next(self._data, None)
            if part is None:
                raise FileError("short", "fewer bytes arrived than were announced")
            self._held = part[size_bytes:]
            yield part[:size_bytes]
            size_bytes -= len(part) - len(self._held)

    def take(self, size_bytes: int) -> bytes:
        """So many bytes at once."""
        return b"".join(self.parts(size_bytes))
