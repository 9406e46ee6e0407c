"""One request that looks at everything: trees, recorded trees, files, interpreters, short scripts. Changes nothing but caches.

Items are answered in order; one that cannot be answered gives {"error": {"code", "message"}} and spoils no other.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time

from albor_pipeline.agent import facts, files, liveness, scripts, trees
from albor_pipeline.agent.hashing import DigestUnavailable, StatCache
from albor_pipeline.agent.layout import Layout
from albor_pipeline.agent.results import Results
from albor_pipeline.agent.watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

SCRIPT_THREADS = 4
WATCHED_BY_STAMP = ("tree", "verify")


def new_cache(layout: Layout) -> StatCache:
    """The stat cache of a workdir, which trusts no network file system."""
    cache = StatCache(layout.stat_cache, liveness.boot_id(), time.time_ns)
    cache.distrust(liveness.network_devices)
    return cache


class Prober:
    """Answers probe items under one workdir; the stat cache stays in memory between requests."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._cache = new_cache(layout)
        self.watch = Watch(layout, time.time_ns, self._cache.trusts)
        self._lock = threading.Lock()
        self._operations = {
            "tree": self._tree,
            "verify": self._verify,
            "sh": self._sh,
            "stat": self._stat,
            "python": self._python,
            "results": self._results,
            "space": self._space,
        }

    def answer(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """One result an item, all of them watched. Scripts run beside one another, and beside the reading."""
        results = self.look(items)
        for item, result in zip(items, results):  # noqa: B905 (Python 3.9)
            if item.get("op") not in WATCHED_BY_STAMP:
                self.watch.answered(item, result)
        return results

    def look(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """One result an item."""
        results: list[dict[str, Any]] = [{} for _item in items]
        roots = [index for index, item in enumerate(items) if item.get("sudo") and os.geteuid() != 0]
        waiting = [index for index, item in enumerate(items) if item.get("op") == "sh" and index not in roots]
        workers = [
            threading.Thread(target=self._scripts, args=(items, results, waiting))
            for _n in range(min(len(waiting), SCRIPT_THREADS))
        ]
        if roots:
            workers.append(threading.Thread(target=self._as_root, args=(items, results, roots)))
        for worker in workers:
            worker.start()
        with self.caching():
            for index, item in enumerate(items):
                if item.get("op") != "sh" and index not in roots:
                    results[index] = self._one(item)
        for worker in workers:
            worker.join()
        return results

    @contextlib.contextmanager
    def caching(self) -> Iterator[StatCache]:
        """The stat cache, up to date and for this thread alone; what is learned is saved."""
        with self._lock:
            self._cache.load()
            yield self._cache
            self._cache.save()

    def _scripts(self, items: Sequence[Mapping[str, Any]], results: list[dict[str, Any]], waiting: list[int]) -> None:
        while waiting:
            try:
                index = waiting.pop(0)
            except IndexError:
                return
            results[index] = self._one(items[index])

    def _as_root(self, items: Sequence[Mapping[str, Any]], results: list[dict[str, Any]], roots: Sequence[int]) -> None:
        """The items that only root may look at, in one go; what stands in the way is the answer to each."""
        from albor_pipeline.agent.converging import as_root

        try:
            answers = as_root(self._layout, {"verb": "probe", "items": [items[index] for index in roots]}, iter(()))["results"]
        except files.FileError as error:
            answers = [_error(error.code, error.message)] * len(roots)
        except OSError as error:
            answers = [_error("io", str(error))] * len(roots)
        for index, answer in zip(roots, answers):  # noqa: B905 (Python 3.9)
            results[index] = answer

    def _one(self, item: Mapping[str, Any]) -> dict[str, Any]:
        operation = self._operations.get(str(item.get("op")))
        if operation is None:
            return _error("unknown-op", "this agent knows no probe %r" % (item.get("op"),))
        try:
            return operation(item)
        except OSError as error:
            return _error("io", "%s: %s" % (error.filename, error.strerror) if error.filename else str(error))
        except DigestUnavailable as error:
            return _error("no-blake3", str(error))
        except (ValueError, KeyError, TypeError) as error:
            return _error("bad-item", "%s: %s" % (type(error).__name__, error))

    def _digester(self, item: Mapping[str, Any]) -> Callable[[str, os.stat_result], str]:
        deep = bool(item.get("deep"))
        return lambda path, info: self._cache.digest(path, info, deep)

    def _tree(self, item: Mapping[str, Any]) -> dict[str, Any]:
        walked = trees.walk(self._layout.path(item["path"]))
        self.watch.saw(item["path"], walked)
        if walked is None:
            return {"found": False, "type": None, "root": None, "files": 0, "size_bytes": 0, "sig": None}
        tree = trees.read_walked(walked, self._digester(item))
        if item.get("record"):
            trees.record(self._layout, tree)
        return {"found": True, "type": tree.type, **tree.summary(), "sig": trees.signature_walked(walked)}

    def _verify(self, item: Mapping[str, Any]) -> dict[str, Any]:
        walked = trees.walk(self._layout.path(item["path"]))
        self.watch.saw(item["path"], walked)
        return trees.compare(self._layout, walked, item["root"], self._digester(item))

    def _sh(self, item: Mapping[str, Any]) -> dict[str, Any]:
        return scripts.run_script(
            item["script"], item.get("timeout_s"), item.get("env"), self._layout.path(item.get("cwd") or ".")
        )

    def _stat(self, item: Mapping[str, Any]) -> dict[str, Any]:
        return files.stat(self._layout.path(item["path"]), self._digester(item))

    def _results(self, item: Mapping[str, Any]) -> dict[str, Any]:
        found = Results(self._layout, self._cache).listing(item["resource"], item.get("fingerprint"), bool(item.get("outputs")))
        return {"results": found}

    def _space(self, item: Mapping[str, Any]) -> dict[str, Any]:
        path = self._layout.path(item["path"])
        while not os.path.exists(path):
            path = os.path.dirname(path)
        return {"free_bytes": facts.disk_free_bytes(path), "device": os.stat(path).st_dev}

    def _python(self, item: Mapping[str, Any]) -> dict[str, Any]:
        python = item.get("python")
        return facts.distributions(None if python is None else self._layout.path(python))


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}
