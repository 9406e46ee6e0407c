"""Declared outputs and inputs around one attempt: cleared before, watched meanwhile, digested after. Starts nothing.

Bytes at a declared output are removed only when an attempt of ours explains them: their tree is recorded, they are
exactly what a failed attempt of the same resource left, or they came to be while one ran that was cut off without a proof.
Anything else is kept by rename under .albor/kept and reported.
"""

from __future__ import annotations

import glob
import os
import time

from albor_pipeline.agent import liveness, trees
from albor_pipeline.agent.attempts import numbered, read_proof, remove_tree
from albor_pipeline.agent.hashing import StatCache
from albor_pipeline.agent.layout import Layout, quote, read_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

CLOCK_GRAIN_S = 0.05  # the clock of file stamps lags behind the one that is read


class OutputError(Exception):
    """A declared output or input is not as it must be; the text says which."""


class Files:
    """The outputs and inputs of one attempt."""

    def __init__(self, layout: Layout, spec: Mapping[str, Any], cache: StatCache) -> None:
        self._layout = layout
        self._cache = cache
        self._resource: str = spec["resource"]
        self._run: str = spec["run"]
        self._outputs: Sequence[Mapping[str, Any]] = spec.get("outputs") or []
        self._inputs: Sequence[Mapping[str, Any]] = spec.get("inputs") or []
        self._stamps: list[str | None] = []
        self.kept: list[str] = []
        self.trees: dict[str, trees.Tree] = {}
        self.paths = [output["path"] for output in self._outputs]

    def clear(self, base: str, own: bool = False) -> None:
        """Remove what lies at the outputs, or keep it aside; `own` True when this attempt itself made it. Raises OutputError."""
        for output in self._outputs:
            matches = _matches(self._layout.path(output["path"]))
            known: Known | None = None
            for path in matches:
                self._refuse_dangerous(path, output["path"])
                if not own and not output.get("volatile"):
                    known = known or Known(self._layout, base, output["path"])
                    if not self._explained(path, known):
                        self._keep(path)
                        continue
                remove_tree(path)

    def _refuse_dangerous(self, path: str, name: str) -> None:
        home, workdir = self._layout.home, self._layout.workdir
        if (workdir + "/").startswith(path.rstrip("/") + "/") or (path + "/").startswith(home + "/"):
            raise OutputError("declared output %s would remove the working directory or .albor" % name)

    def _explained(self, path: str, known: Known) -> bool:
        if os.path.islink(path):
            return False
        if known.leftovers and trees.signature(path) in known.leftovers:
            return True
        if known.windows and _came_to_be_in(path, known.windows):
            return True
        tree = trees.read_tree(path, self._digest)
        if tree is None:
            return False
        if os.path.exists(os.path.join(self._layout.trees, tree.root)):
            return True
        return all(entry[1] == "d" or entry[3] in known.digests for entry in tree.entries)

    def _digest(self, path: str, info: os.stat_result) -> str:
        return self._cache.digest(path, info)

    def _keep(self, path: str) -> None:
        folder = os.path.join(self._layout.kept, quote(self._run or "run"), quote(self._resource))
        os.makedirs(folder, exist_ok=True)
        name = self._layout.relative(path).strip("/").replace("/", "%2F")[:200]
        target, count = os.path.join(folder, name), 1
        while os.path.lexists(target):
            count += 1
            target = os.path.join(folder, "%s.%d" % (name, count))
        try:
            os.rename(path, target)
        except OSError as error:
            text = "%s holds bytes that no attempt made, and they cannot be moved to .albor/kept: %s"
            raise OutputError(text % (self._layout.relative(path), error.strerror)) from None
        self.kept.append(self._layout.relative(target))

    def watch_inputs(self) -> None:
        """Remember every input as it is now. Raises OutputError when one is not what the spec says."""
        self._stamps = []
        for item in self._inputs:
            path = self._layout.path(item["path"])
            stamp = trees.signature(path)
            if stamp != item.get("sig", ""):
                self._compare(item, path, "changed before the task started")
            self._stamps.append(stamp)

    def check_inputs(self) -> None:
        """Raise OutputError that names the first input that is no longer what it was."""
        for item, stamp in zip(self._inputs, self._stamps):  # noqa: B905 (Python 3.9)
            path = self._layout.path(item["path"])
            if trees.signature(path) != stamp:
                self._compare(item, path, "changed while the task ran")

    def _compare(self, item: Mapping[str, Any], path: str, what: str) -> None:
        if item.get("root") is None:
            return
        tree = trees.read_tree(path, self._digest)
        if tree is None or tree.root != item["root"]:
            raise OutputError("input %s %s" % (item["path"], what))

    def check_present(self) -> None:
        """Raise OutputError that names every declared output that is missing."""
        missing = [item["path"] for item in self._outputs if not _matches(self._layout.path(item["path"]), follow=True)]
        if missing:
            text = "declared output %s is missing" if len(missing) == 1 else "declared outputs %s are missing"
            raise OutputError(text % ", ".join(missing))

    def proofs(self) -> dict[str, Any]:
        """Every output by its declared path, digested. Raises OutputError, OSError.

        The listings are recorded where that is possible; a full disk there does not spoil a good result.
        """
        found: dict[str, Any] = {}
        for item in self._outputs:
            path = self._layout.path(item["path"])
            if item.get("volatile"):
                walked = trees.walk(path)
                files = (
                    [info for _name, _path, info in walked[1] if info.st_mode & 0o170000 != 0o040000] if walked else []
                )
                found[item["path"]] = {
                    "root": None,
                    "files": len(files),
                    "size_bytes": sum(info.st_size for info in files),
                }
                continue
            tree = trees.read_tree(path, self._digest)
            if tree is None:
                raise OutputError("declared output %s is missing" % item["path"])
            found[item["path"]] = tree.summary()
            self.trees[item["path"]] = tree
        try:
            for tree in self.trees.values():
                trees.record(self._layout, tree)
            self._cache.save()
        except OSError:
            return found
        return found

    def leftovers(self) -> list[str]:
        """Signatures of what a failed attempt leaves at its outputs, so that the next start may remove exactly that."""
        found = []
        for item in self._outputs:
            for path in _matches(self._layout.path(item["path"])):
                try:
                    stamp = trees.signature(path)
                except OSError:
                    continue
                if stamp is not None:
                    found.append(stamp)
        return found


def _matches(pattern: str, follow: bool = False) -> list[str]:
    exists = os.path.exists if follow else os.path.lexists
    if exists(pattern):
        return [pattern]
    return sorted(glob.glob(pattern, recursive=True)) if trees.MAGIC.intersection(pattern) else []


class Known:
    """What earlier attempts of a resource left.

    Signatures of failed ones, file digests of proven ones, and when the last one ran if it was cut off.
    """

    def __init__(self, layout: Layout, base: str, output: str) -> None:
        self.leftovers: set[str] = set()
        self.digests: set[str] = set()
        self.windows: list[tuple[float, float]] = []
        for _number, folder in numbered(base):
            proof = read_proof(folder)
            if proof is None:
                self.windows = _window(folder) or self.windows
                continue
            self.windows = []
            self.leftovers.update(proof.get("leftovers") or [])
            root = (proof["exit"]["outputs"].get(output) or {}).get("root")
            tree = trees.recall(layout, root) if root else None
            if tree is not None:
                self.digests.update(entry[3] for entry in tree.entries if entry[3])


def _window(folder: str) -> list[tuple[float, float]]:
    """From when to when a cut off attempt ran, by the machine's clock; empty where that is not known.

    Its supervisor touched `alive` every 2 s: what came after the last touch may be a user's, and does not count. After a
    restart of the machine it ran at most until then.
    """
    record, alive = read_json(os.path.join(folder, "pid")), os.path.join(folder, "alive")
    if record is None or liveness.lock_is_held(alive):
        return []
    begin = record["at"] - CLOCK_GRAIN_S
    if record.get("boot") != liveness.boot_id():
        return [(begin, time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))]
    return [(begin, os.stat(alive).st_mtime)]


def _came_to_be_in(path: str, windows: Sequence[tuple[float, float]]) -> bool:
    """True when every inode below a path was last changed within one of these times."""
    walked = trees.walk(path)
    stamps = [info.st_ctime for _name, _path, info in walked[1]] if walked else []
    stamps.append(os.lstat(path).st_ctime)
    return any(begin <= min(stamps) and max(stamps) <= end for begin, end in windows)
