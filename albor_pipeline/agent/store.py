"""The store: bytes of outputs by digest, under .albor/store/objects. Knows no resource, no attempt and no wire.

An object is a reflink of the output, else the output itself by a second, read-only name, else a copy; its name is the
digest of its bytes, with `.x` where the file is executable and `.l` where it is the text of a link. Nothing is durable
or trusted: an object's bytes are read and digested before they are used again, and one that differs is set aside as
`.corrupt`. Whoever adds or uses objects holds the store's lock shared, who removes some holds it alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os

from albor_pipeline.agent import crew, hashing
from albor_pipeline.agent.hashing import StatCache
from albor_pipeline.agent.layout import Layout, temporary, unlink, write_all
from albor_pipeline.agent.trees import Tree, base_of, place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FICLONE = 0x40049409
COPY_LIMIT_BYTES = 1 << 30
WRITE_BYTES = 1 << 18  # more at once was several times slower on ext4
SHARED, REFLINK, LINK, COPY = "shared", "reflink", "link", "copy"
NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EACCES)
NO_CLONE = (errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.ETXTBSY)


class StoreError(Exception):
    """Something cannot be kept or given back; the text says what and why. `objects` names those that are corrupt or missing."""

    def __init__(self, message: str, objects: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.objects = objects


class Store:
    """The objects of one workdir; one instance a worker, since what is tried out is remembered."""

    def __init__(self, layout: Layout, cache: StatCache) -> None:
        self._objects = os.path.join(layout.store, "objects")
        self._cache = cache
        self._lock = os.path.join(layout.store, ".lock")
        self._no_clone: set[int] = set()
        self._made: dict[str, int] = {}
        self._to_copy: dict[str, tuple[str, str, int]] = {}

    @contextlib.contextmanager
    def held(self, alone: bool = False) -> Iterator[None]:
        """Hold the store's lock for as long as it takes; gc does so alone."""
        os.makedirs(os.path.dirname(self._lock), exist_ok=True)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            yield
        finally:
            os.close(descriptor)

    def object_path(self, entry: tuple[str, str, int, str | None, int]) -> str:
        """Where the object of a tree's file or link is, whether it is there or not."""
        digest = entry[3] or ""
        ending = ".l" if entry[1] == "l" else ".x" if entry[2] else ""
        return "%s/%s/%s%s" % (self._objects, digest[:2], digest, ending)

    def missing(self, tree: Tree) -> str:
        """The first entry of a tree that could not be given back, empty when all could; only what stat does not vouch for is read."""
        for entry in (entry for entry in tree.entries if entry[1] != "d"):
            path = self.object_path(entry)
            try:
                info = os.lstat(path)
            except OSError:
                return "%s is gone from the store" % (entry[0] or "it")
            whole = entry[1] != "f" or (info.st_size == entry[4] and self._cache.digest(path, info) == entry[3])
            if not whole:
                return "%s is corrupt in the store" % (entry[0] or "it")
        return ""

    def is_whole(self, entry: tuple[str, str, int, str | None, int]) -> bool:
        """Whether the object of a file is there and whole, as far as its stamp tells."""
        path = self.object_path(entry)
        try:
            info = os.lstat(path)
        except OSError:
            return False
        return info.st_size == entry[4] and self._cache.digest(path, info) == entry[3]

    def put_link(self, entry: tuple[str, str, int, str | None, int], text: str) -> None:
        """Keep the text of a link. Raises OSError."""
        self._put(self.object_path(entry), os.fsencode(text))

    def receive(self, entry: tuple[str, str, int, str | None, int], path: str) -> None:
        """Make the file at `path`, which came from elsewhere, the object of an entry; else copy that of the other mode. Raises OSError."""
        target, mode = self.object_path(entry), 0o555 if entry[2] else 0o444
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not entry[4]:
            self._put(target, b"")
            os.chmod(target, mode)
            return
        there = os.path.exists(path)
        before = os.lstat(path) if there else None
        if before is not None and before.st_nlink == 1 and before.st_dev == os.stat(os.path.dirname(target)).st_dev:
            os.chmod(path, mode)
            os.rename(path, target)
            self._cache.relinked(target, before, entry[3] or "")
            return
        name, other = temporary(target), self.object_path((entry[0], entry[1], 1 - entry[2], entry[3], entry[4]))
        if copy(path if there else other, name, entry[3] or ""):
            os.chmod(name, mode)
            os.rename(name, target)

    def keep(self, path: str, tree: Tree, big: bool = False) -> str:
        """Keep all bytes of the tree found at `path`; how. `big`: copies of any size. Raises StoreError, OSError."""
        if any(entry[1] == "o" for entry in tree.entries):
            raise StoreError("it holds a device, a socket or a pipe")
        self._made.clear()
        self._to_copy.clear()
        how, base = SHARED, base_of(path, tree.type)
        for entry in tree.entries:
            if entry[1] == "f":
                how = max(how, self._keep_file(place(base, entry[0]), entry), key=(SHARED, REFLINK, LINK, COPY).index)
            elif entry[1] == "l":
                self._put(self.object_path(entry), os.fsencode(os.readlink(place(base, entry[0]))))
        if not big and sum(size for _source, _digest, size in self._to_copy.values()) > COPY_LIMIT_BYTES:
            raise StoreError("it lies on another file system, and copies over 1 GiB are made only where `store: true` says so")
        large = {target for target, what in self._to_copy.items() if what[2] > hashing.SMALL_BYTES}
        crew.each(self._keep_copy, large, hashing.default_threads())
        for target in self._to_copy:
            if target not in large:
                self._keep_copy(target)
        return how

    def _keep_file(self, path: str, entry: tuple[str, str, int, str | None, int]) -> str:
        """Keep a file; COPY where that is still to be done."""
        target = self.object_path(entry)
        digest, size = entry[3] or "", entry[4]
        if self._is_good(target, digest, size):
            return SHARED
        device = self._make_folder(target)
        before = os.lstat(path)
        if before.st_dev != device:
            self._to_copy[target] = (path, digest, size)
            return COPY
        if self._clone(path, target, before):
            return REFLINK
        try:
            os.chmod(path, before.st_mode & 0o7555)
            os.link(path, target)
        except FileExistsError:
            os.chmod(path, before.st_mode & 0o7777)
            return SHARED
        except OSError as error:
            os.chmod(path, before.st_mode & 0o7777)
            if error.errno not in NO_LINK:
                raise
        else:
            if not self._cache.relinked(path, before, digest):
                unlink(target)
                raise StoreError("%s changed while it was kept" % path)
            return LINK
        self._to_copy[target] = (path, digest, size)
        return COPY

    def _keep_copy(self, target: str) -> None:
        source, digest, _size = self._to_copy[target]
        name = temporary(target)
        if not copy(source, name, digest):
            raise StoreError("%s changed while it was copied" % source)
        try:
            os.rename(name, target)
        except BaseException:
            unlink(name)
            raise

    def _make_folder(self, target: str) -> int:
        """The device of an object's folder; none goes while the store's lock is held, so each is made once for a tree."""
        folder = os.path.dirname(target)
        if folder not in self._made:
            os.makedirs(folder, exist_ok=True)
            self._made[folder] = os.stat(folder).st_dev
        return self._made[folder]

    def _is_good(self, target: str, digest: str, size: int) -> bool:
        """True when the object is there and whole; a corrupt one is set aside."""
        try:
            info = os.lstat(target)
        except FileNotFoundError:
            return False
        if info.st_size == size and self._cache.digest(target, info) == digest:
            return True
        os.replace(target, target + ".corrupt")
        return False

    def _clone(self, source: str, target: str, before: os.stat_result) -> bool:
        """Share the blocks of a file where the file system can; the clone is read-only."""
        if before.st_dev in self._no_clone:
            return False
        name = temporary(target)
        try:
            if not clone(source, name, before.st_mode & 0o7555):
                self._no_clone.add(before.st_dev)
                return False
            after = os.lstat(source)
            if hashing.stat_key(after) != hashing.stat_key(before):
                raise StoreError("%s changed while it was kept" % source)
            os.rename(name, target)
        finally:
            unlink(name)
        return True

    def _put(self, target: str, data: bytes) -> None:
        if os.path.exists(target):
            return
        os.makedirs(os.path.dirname(target), exist_ok=True)
        name = temporary(target)
        descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        try:
            write_all(descriptor, data)
            os.rename(name, target)
        finally:
            os.close(descriptor)
            unlink(name)

    def is_near(self, folder: str) -> bool:
        """Whether a folder is on the store's file system; what is not can only be copied."""
        try:
            return os.stat(folder).st_dev == os.stat(self._objects).st_dev
        except FileNotFoundError:
            return True

    def give(self, entry: tuple[str, str, int, str | None, int], path: str, near: bool) -> None:
        """Make `path`, which must not exist, what a tree's entry says. Raises StoreError for a missing or corrupt object, OSError.

        Bytes are read and digested anew. Nobody else may know `path` yet: what is half made has that name. Several
        threads may call at once.
        """
        if entry[1] == "d":
            os.mkdir(path)
            return
        source, digest = self.object_path(entry), entry[3] or ""
        try:
            if entry[1] == "l":
                os.symlink(self._read_link(source, digest), path)
            elif not near:
                self._give_copy(source, path, digest)
            else:
                self._give_file(source, path, digest)
        except FileNotFoundError:
            if os.path.lexists(source):
                raise
            raise StoreError("the object %s is missing" % os.path.basename(source), (source,)) from None

    def _give_file(self, source: str, path: str, digest: str) -> None:
        found, info, _after = hashing.read_digest(source)
        if found != digest:
            raise self._set_aside(source)
        if info.st_dev not in self._no_clone:
            if clone(source, path, info.st_mode & 0o7777 | 0o200):
                return
            self._no_clone.add(info.st_dev)
        try:
            os.link(source, path)
        except OSError as error:
            if error.errno not in NO_LINK:
                raise
            self._give_copy(source, path, digest)
            return
        self._cache.relinked(path, info, digest)

    def _give_copy(self, source: str, path: str, digest: str) -> None:
        if not copy(source, path, digest, 0o200):
            raise self._set_aside(source)

    def _set_aside(self, source: str) -> StoreError:
        with contextlib.suppress(FileNotFoundError):  # another thread found it too
            os.replace(source, source + ".corrupt")
        return StoreError("the object %s is corrupt and was set aside" % os.path.basename(source), (source,))

    def _read_link(self, source: str, digest: str) -> bytes:
        with open(source, "rb") as file:
            text = file.read()
        if hashing.digest_bytes(text) != digest:
            raise self._set_aside(source)
        return text

    def all(self) -> Iterator[tuple[str, os.stat_result]]:
        """Every object, whole or not, with its stat; what is half written too."""
        for folder in sorted(os.listdir(self._objects)) if os.path.isdir(self._objects) else ():
            with os.scandir(os.path.join(self._objects, folder)) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    yield entry.path, entry.stat(follow_symlinks=False)


def clone(source: str, target: str, mode: int) -> bool:
    """Make `target` a reflink of a file; False, and nothing there, where the file system cannot."""
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.ioctl(writing, FICLONE, reading)
            os.fchmod(writing, mode)
            return True
        except OSError as error:
            unlink(target)
            if error.errno not in NO_CLONE:
                raise
            return False
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def copy(source: str, target: str, digest: str, more_mode: int = 0) -> bool:
    """Copy a file to a name that is not there yet; False, and nothing there, when its bytes have another digest. Raises OSError."""
    reading = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        info = os.fstat(reading)
        writing = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        whole = False
        try:
            threads = hashing.threads_for(info.st_size)
            hasher = hashing.new_hasher(threads)
            for data in hashing.chunks(reading, info.st_size, threads):
                hasher.update(data)
                for start in range(0, len(data), WRITE_BYTES):
                    write_all(writing, data[start : start + WRITE_BYTES])
            os.fchmod(writing, info.st_mode & 0o7555 | more_mode)
            whole = hasher.hexdigest() == digest
        finally:
            os.close(writing)
            if not whole:
                unlink(target)
        return whole
    finally:
        os.close(reading)
