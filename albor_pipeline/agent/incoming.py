"""Files on their way to this machine, by digest, under .albor/incoming: whole ones, and parts that the next transfer goes on with.

    .albor/incoming/<ab>/<digest>    all its bytes, which had that digest when they came; <ab> are its first letters
    .albor/incoming/<digest>.part    its first bytes, as many as had come when the connection broke

Many small files come into many folders, since ext4 takes the inodes of one folder from one place, and passes there over each that
was freed lately: 20,000 files in one folder took up to seven times as long.

Nothing here is trusted or durable: a whole file is digested again unless its stamp vouches for it (so a small one, which comes in
one piece, is written under its digest at once), and the bytes of a part
count with those that follow. What no transfer uses any more goes with the store's sweep. Knows no tree and no wire.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time

from albor_pipeline.agent import hashing
from albor_pipeline.agent.attempts import remove_tree
from albor_pipeline.agent.layout import temporary, unlink, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from albor_pipeline.agent.hashing import StatCache
    from albor_pipeline.agent.layout import Layout

PART = ".part"
FAN_CHARS = 2
WRITE_BYTES = 1 << 18
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
AGE_NS = hashing.RACY_NS + 1_000_000_000


class Incoming:
    """The folder of one workdir."""

    def __init__(self, layout: Layout) -> None:
        self.folder = layout.incoming
        self._lock = os.path.join(self.folder, ".lock")

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep what is here from being swept; several transfers may."""
        os.makedirs(self.folder, exist_ok=True)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield
        finally:
            os.close(descriptor)

    def path(self, digest: str) -> str:
        """Where the whole file of a digest is, if it is here."""
        return "%s/%s/%s" % (self.folder, digest[:FAN_CHARS], digest)

    def part(self, digest: str) -> str:
        """Where the first bytes of a file are, if they are here."""
        return "%s/%s%s" % (self.folder, digest, PART)

    def note(self, place: str) -> str:
        """Where landing.py writes down which trees are mixed at a place."""
        return "%s/%s.mixed" % (self.folder, hashing.digest_bytes(os.fsencode(place)))

    def whole(self, digest: str, size: int, cache: StatCache) -> os.stat_result | None:
        """The stat of a file that came whole; None, and nothing there, when it did not. Raises OSError."""
        path = self.path(digest)
        try:
            info = os.lstat(path)
        except FileNotFoundError:
            return None
        if info.st_size == size and cache.digest(path, info) == digest:
            return info
        unlink(path)
        return None

    def here(self) -> dict[str, int]:
        """The names of all that is here, with their bytes."""
        fans = [entry.path for entry in _entries(self.folder) if len(entry.name) == FAN_CHARS]
        found = [entry for folder in (self.folder, *fans) for entry in _entries(folder)]
        return {entry.name: entry.stat(follow_symlinks=False).st_size for entry in found if not entry.name.startswith(".")}

    def sweep(self, dry_run: bool) -> tuple[int, int]:
        """Take away what no transfer uses, or only count it: files and bytes; nothing while a transfer is under way. Raises OSError."""
        count, size_bytes = 0, 0
        if not os.path.isdir(self.folder):
            return 0, 0
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for entry in [entry for entry in _entries(self.folder) if entry.name != ".lock"]:
                for info in _files(entry):
                    count, size_bytes = count + 1, size_bytes + (info.st_size if info.st_nlink == 1 else 0)
                if not dry_run:
                    remove_tree(entry.path)
        except BlockingIOError:
            return 0, 0
        finally:
            os.close(lock)
        return count, size_bytes


    def put(self, digest: str, data: memoryview) -> os.stat_result | None:
        """A file that came in one piece: its stat; None, and nothing there, when its bytes have another digest. Raises OSError."""
        if hashing.digest_bytes(data) != digest:
            return None
        path = name = self.path(digest)
        try:
            descriptor = os.open(name, NEW, 0o644)
        except FileNotFoundError:  # the first of its folder
            os.makedirs(os.path.dirname(path), exist_ok=True)
            return self.put(digest, data)
        except FileExistsError:  # another transfer brings the same one
            name = temporary(path)
            descriptor = os.open(name, NEW, 0o644)
        try:
            write_all(descriptor, data)
            return _named(descriptor, name, path)
        except BaseException:
            unlink(name)
            raise
        finally:
            os.close(descriptor)


class Landing:
    """One file while its bytes come; where another transfer writes the same one, this is a copy of its own. Raises OSError."""

    def __init__(self, incoming: Incoming, digest: str, offset: int) -> None:
        self._path = incoming.path(digest)
        self._digest = digest
        self._name = self._part = incoming.part(digest)
        self._hasher = hashing.new_hasher()
        self._descriptor = -1
        part, mine = _open_part(self._name)
        try:
            self._descriptor = part if mine else self._open_copy()
            self._read_first(part, offset)
            os.ftruncate(self._descriptor, offset)
        except BaseException:
            self.leave()
            raise
        finally:
            if not mine:
                os.close(part)

    def _open_copy(self) -> int:
        self._name = temporary(self._name)
        return os.open(self._name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def _read_first(self, part: int, size: int) -> None:
        """Digest the bytes that are here; when fewer are than were announced the digest will be wrong, and that is found at the end."""
        os.lseek(part, 0, os.SEEK_SET)
        while size > 0:
            data = os.read(part, min(size, 1 << 20))
            if not data:
                return
            self._hasher.update(data)
            size -= len(data)
            if part != self._descriptor:
                write_all(self._descriptor, data)

    def write(self, data: memoryview) -> None:
        """The next bytes. Raises OSError."""
        self._hasher.update(data)
        for start in range(0, len(data), WRITE_BYTES):
            write_all(self._descriptor, data[start : start + WRITE_BYTES])

    def finish(self) -> os.stat_result | None:
        """Give the file its name: its stat; None, and nothing there, when its bytes have another digest. Raises OSError."""
        try:
            if self._hasher.hexdigest() == self._digest:
                return _named(self._descriptor, self._name, self._path)
            unlink(self._name)
            return None
        finally:
            os.close(self._descriptor)

    def leave(self) -> None:
        """Stop here: what came is a part, which the next transfer goes on with."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        if self._name != self._part:
            unlink(self._name)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return list(entries)


def _files(entry: os.DirEntry[str]) -> Iterator[os.stat_result]:
    """The stats of a file, or of all files in a folder."""
    if entry.is_dir(follow_symlinks=False):
        for inner in _entries(entry.path):
            yield from _files(inner)
    else:
        yield entry.stat(follow_symlinks=False)


def _open_part(name: str) -> tuple[int, bool]:
    """A descriptor of the part of that name, and whether nobody else writes it, which then holds for as long as it is open."""
    while True:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_ino == os.stat(name).st_ino:
                return descriptor, True
        except BlockingIOError:
            return descriptor, False
        except FileNotFoundError:  # it became whole, and got its name, between the two calls
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _named(descriptor: int, name: str, path: str) -> os.stat_result:
    """Give a whole file its name; its mtime is set back, so that any write from now on shows in it."""
    then_ns = time.time_ns() - AGE_NS
    os.utime(descriptor, ns=(then_ns, then_ns))
    if name != path:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.rename(name, path)
    return os.fstat(descriptor)
