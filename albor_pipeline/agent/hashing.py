"""Digests of bytes and files (BLAKE3, hex), and the stat cache that spares reading a file again. Knows no trees, no wire and no attempts.

The only digest code of the project. The `blake3` module is imported at the first digest, never before: a process
that will fork must not have used it. Without the module the `b3sum` program is asked; without both DigestUnavailable
is raised, because a slow fallback would hash gigabytes in silence for hours.
Files are read in chunks and not mapped: as fast when measured, and a file that is cut short meanwhile is an error
here and not a SIGBUS. A big file alone is read by one thread and digested by others; several are digested one a thread.
Every read is into memory that begins with a page: into a bytes object the kernel copied four times as slowly.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import threading

from albor_pipeline.agent import crew

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Protocol

    class Hasher(Protocol):
        """What both the module and the program give: bytes in, hex out."""

        def update(self, data: bytes | bytearray | memoryview, /) -> Any: ...

        def hexdigest(self) -> str: ...


DIGEST_CHARS = 64
CHUNK_BYTES = 1 << 20
SMALL_BYTES = 1 << 20
MAX_THREADS = 4
RACY_NS = 2_000_000_000
LINE_BYTES = 150
MIN_COMPACT_BYTES = 4 << 20


class DigestUnavailable(RuntimeError):
    """Neither the blake3 module nor the b3sum program is on this machine."""


class _B3Sum:
    """A hasher that pipes into one `b3sum` process."""

    def __init__(self, threads: int) -> None:
        import subprocess

        command = ["b3sum", "--no-names", "--num-threads", str(threads), "-"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)

    def hexdigest(self) -> str:
        text = self._process.communicate()[0].decode("ascii", "replace").strip()
        if self._process.returncode != 0 or len(text) != DIGEST_CHARS:
            raise DigestUnavailable("b3sum failed with exit %s" % self._process.returncode)
        return text


_make: Callable[[int], Hasher] | None = None


def load_module() -> bool:
    """Import blake3 without using it, from the site folders too when the interpreter was started without them (-S)."""
    import sys

    try:
        import blake3

        return True
    except ImportError:
        if not sys.flags.no_site:
            return False
    import site

    site.main()
    try:
        import blake3  # noqa: F401 (the same)

        return True
    except ImportError:
        return False


def _find_maker() -> Callable[[int], Hasher]:
    if not load_module():
        import shutil

        if shutil.which("b3sum") is None:
            raise DigestUnavailable(
                "no BLAKE3 on this machine: install the Python module `blake3` for this interpreter, or `b3sum`"
            ) from None
        return _B3Sum
    from blake3 import blake3

    return lambda threads: blake3(max_threads=threads)


def new_hasher(threads: int = 1) -> Hasher:
    """A hasher with update() and hexdigest(); `threads` bounds those it may use. Raises DigestUnavailable."""
    ensure_available()
    assert _make is not None
    return _make(threads)


def ensure_available() -> None:
    """Raise DigestUnavailable now rather than after hours of work."""
    global _make
    if _make is None:
        _make = _find_maker()


def digest_bytes(data: bytes | bytearray | memoryview) -> str:
    """The BLAKE3 digest of `data` as 64 hex characters. Raises DigestUnavailable."""
    if _make is None:
        ensure_available()
    assert _make is not None
    hasher = _make(1)
    hasher.update(data)
    return hasher.hexdigest()


def default_threads() -> int:
    """How many threads may work at once here: the CPUs, between 1 and 4."""
    return max(1, min(MAX_THREADS, os.cpu_count() or 1))


def threads_for(size_bytes: int) -> int:
    """How many threads this thread may use for a file of that size: its part of all, one for a small file."""
    return max(1, default_threads() // crew.members()) if size_bytes > SMALL_BYTES else 1


def chunks(descriptor: int, size_bytes: int, threads: int) -> Iterator[memoryview]:
    """The bytes from the descriptor's position on; each piece is gone when this thread asks for another. Raises OSError.

    `size_bytes`, what fstat said, only chooses how to read. With several threads the next piece is read meanwhile.
    """
    if threads > 1:
        yield from _read_ahead(descriptor)
        return
    buffer, seen = _own_buffer(), 0
    while count := os.readv(descriptor, [buffer]):
        yield buffer[:count]
        seen += count
        if seen == size_bytes and count < CHUNK_BYTES:  # more was asked for, and there is none
            return


_own = threading.local()


def _own_buffer() -> memoryview:
    """The buffer that this thread reads into, again and again."""
    found: memoryview | None = getattr(_own, "buffer", None)
    if found is None:
        found = _own.buffer = _new_buffer()
    return found


def _new_buffer() -> memoryview:
    """Memory for a piece of a file, from the beginning of a page and shared with no forked process."""
    return memoryview(mmap.mmap(-1, CHUNK_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def _read_ahead(descriptor: int) -> Iterator[memoryview]:
    from queue import SimpleQueue

    free: SimpleQueue[memoryview | None] = SimpleQueue()
    full: SimpleQueue[tuple[memoryview, int] | OSError] = SimpleQueue()

    def read() -> None:
        try:
            while (buffer := free.get()) is not None:
                full.put((buffer, os.readv(descriptor, [buffer])))
        except OSError as error:
            full.put(error)

    reader = threading.Thread(target=read, daemon=True)
    for _n in range(2):
        free.put(_new_buffer())
    reader.start()
    try:
        while True:
            found = full.get()
            if isinstance(found, OSError):
                raise found
            if not found[1]:
                return
            yield found[0][: found[1]]
            free.put(found[0])
    finally:
        free.put(None)
        reader.join()


def digest_fd(descriptor: int, size_bytes: int) -> str:
    """The digest of all bytes from the descriptor's position on; `size_bytes` only chooses how to read."""
    threads = threads_for(size_bytes)
    hasher = new_hasher(threads)
    for data in chunks(descriptor, size_bytes, threads):
        hasher.update(data)
    return hasher.hexdigest()


def digest_file(path: str) -> str:
    """The digest of a regular file's bytes. Raises OSError, DigestUnavailable."""
    return read_digest(path)[0]


def read_digest(path: str) -> tuple[str, os.stat_result, os.stat_result]:
    """The digest of a file's bytes and its stat before and after the read; they differ when it was written to meanwhile."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        before = os.fstat(descriptor)
        digest = digest_fd(descriptor, before.st_size)
        return digest, before, os.fstat(descriptor)
    finally:
        os.close(descriptor)


def stat_key(info: os.stat_result) -> tuple[int, int, int, int, int]:
    """What must be equal for a file to be taken as unchanged: device, inode, size, mtime and ctime in ns."""
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


class StatCache:
    """Digests of files by (device, inode, size, mtime, ctime), shared by processes through one appended file.

    Promises: a ctime within 2 s of the read is not stored, since a later write could leave the same stamp; lines of
    an earlier boot are dropped, since a power cut may leave the stamps and lose the bytes; a torn or foreign line is
    ignored. Losing the file costs time, never truth. Several threads may ask for digests at once; one saves.
    """

    def __init__(self, path: str, boot_id: str, clock_ns: Callable[[], int]) -> None:
        self._path = path
        self._head = "albor-stat-cache 1 %s\n" % boot_id
        self._clock_ns = clock_ns
        self._loading = threading.Lock()
        self._offset = 0
        self._known: dict[tuple[int, int], tuple[int, int, int, str]] = {}
        self._fresh: list[str] = []
        self._loaded = False
        self._distrusted: Callable[[], frozenset[int]] | frozenset[int] = frozenset()

    def distrust(self, devices: Callable[[], frozenset[int]]) -> None:
        """Name the devices (network file systems) whose stamps prove nothing; asked when first needed."""
        self._distrusted = devices

    def digest(self, path: str, info: os.stat_result, deep: bool = False) -> str:
        """The digest of the regular file at `path` with this lstat; `deep` reads the bytes in any case."""
        began_ns = self._clock_ns()
        if info.st_ctime_ns + RACY_NS >= began_ns:
            return read_digest(path)[0]
        if not self._loaded:
            self.load()
        trusted = self.trusts(info.st_dev)
        found = self._known.get((info.st_dev, info.st_ino)) if trusted and not deep else None
        if found is not None and found[:3] == (info.st_size, info.st_mtime_ns, info.st_ctime_ns):
            return found[3]
        digest, before, after = read_digest(path)
        if trusted and stat_key(before) == stat_key(after) and before.st_ctime_ns + RACY_NS < began_ns:
            self._add(before, digest)
        return digest

    def relinked(self, path: str, before: os.stat_result, digest: str, now: os.stat_result | None = None) -> bool:
        """Keep the digest of a file whose ctime we moved ourselves, by a link or a mode; False when its bytes may have moved too.

        A write since `before` would show in mtime, unless `before` is itself younger than the clock's grain. `now` spares a look.
        """
        now = now or os.lstat(path)
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
            return False
        if before.st_mtime_ns + RACY_NS < self._clock_ns() and self.trusts(now.st_dev):
            self._add(now, digest)
        return True

    def trusts(self, device: int) -> bool:
        """Whether the stamps of files there prove anything."""
        if not isinstance(self._distrusted, frozenset):
            self._distrusted = self._distrusted()
        return device not in self._distrusted

    def _add(self, info: os.stat_result, digest: str) -> None:
        dev, ino, size, mtime_ns, ctime_ns = stat_key(info)
        if self._known.get((dev, ino)) == (size, mtime_ns, ctime_ns, digest):
            return
        self._known[(dev, ino)] = (size, mtime_ns, ctime_ns, digest)
        self._fresh.append(_line(dev, ino, size, mtime_ns, ctime_ns, digest))

    def load(self) -> None:
        """Read what other processes appended since the last call."""
        with self._loading:
            self._load()
            self._loaded = True

    def _load(self) -> None:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        with open(descriptor, "rb") as file:
            if file.readline().decode("ascii", "replace") != self._head:
                return
            file.seek(max(self._offset, len(self._head)))
            data = file.read()
            end = data.rfind(b"\n") + 1
            self._offset = file.tell() - len(data) + end
        for line in data[:end].decode("ascii", "replace").split("\n"):
            words = line.split(" ")
            if len(words) == 7 and words[0] == "f" and len(words[6]) == DIGEST_CHARS:
                _mark, dev, ino, size, mtime_ns, ctime_ns, digest = words
                try:
                    self._known[(int(dev), int(ino))] = (int(size), int(mtime_ns), int(ctime_ns), digest)
                except ValueError:
                    continue

    def save(self) -> None:
        """Append what was learned, under the file's lock; start the file anew when it is of an earlier boot."""
        if not self._fresh:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            head = self._head.encode()
            if os.pread(descriptor, len(head), 0) != head:
                os.ftruncate(descriptor, 0)
                os.write(descriptor, head)
            view = memoryview("".join(self._fresh).encode())
            while len(view):
                view = view[os.write(descriptor, view) :]
            self._fresh.clear()
            if os.fstat(descriptor).st_size > MIN_COMPACT_BYTES + 3 * LINE_BYTES * len(self._known):
                self._compact(descriptor)
        finally:
            os.close(descriptor)

    def _compact(self, descriptor: int) -> None:
        """Write only what is known; the lock is held, and a cut in between loses nothing but time."""
        lines = [_line(dev, ino, *rest) for (dev, ino), rest in self._known.items()]
        os.ftruncate(descriptor, 0)
        view = memoryview((self._head + "".join(lines)).encode())
        while len(view):
            view = view[os.write(descriptor, view) :]
        self._offset = 0


def _line(dev: int, ino: int, size: int, mtime_ns: int, ctime_ns: int, digest: str) -> str:
    return "f %d %d %d %d %d %s\n" % (dev, ino, size, mtime_ns, ctime_ns, digest)
