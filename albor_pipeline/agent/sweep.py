"""What a store holds: listed, read again, and what nobody needs taken away. Restores nothing.

Needed is what is in force for any lineage, what the last runs of a lineage made or used, what a running attempt reads, and what
the newest attempt of a resource made if no controller recorded that yet.
"""

from __future__ import annotations

import os

from albor_pipeline.agent import attempts, hashing, leftovers, trees
from albor_pipeline.agent.incoming import Incoming
from albor_pipeline.agent.layout import Layout, lock_file, read_json, replace_file, to_json, unlink
from albor_pipeline.agent.results import LOCK_WAIT_S, VERSION, Results, result_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    Name = tuple[str, str, str]


class Sweep:
    """One look over the whole index and its objects."""

    def __init__(self, layout: Layout, results: Results) -> None:
        self._layout = layout
        self._store = results.store
        self._results = results

    def listing(self) -> list[dict[str, Any]]:
        """Every result of every resource, in the order of resource and time."""
        found = [result for name in self._results.resources() for result in self._of(name)]
        return sorted(found, key=lambda one: (one["resource"], one.get("at_utc") or ""))

    def _of(self, folder: str) -> Iterator[dict[str, Any]]:
        base = os.path.join(self._layout.results, folder)
        for name in sorted(os.listdir(base)):
            body = read_json(os.path.join(base, name)) if not name.startswith(".") else None
            for result in (body or {}).get("results") or []:
                about = {key: body[key] for key in ("resource", "fingerprint", "parts")} if body else {}
                size = sum(proof["size_bytes"] for proof in result["outputs"].values())
                yield {**about, **result, "size_bytes": size}

    def verify(self) -> dict[str, Any]:
        """Read every object again; one whose bytes are not what its name says is set aside and told of."""
        corrupt, count, size_bytes = [], 0, 0
        with self._store.held():
            for path, info in self._store.all():
                name = os.path.basename(path)
                if len(name.partition(".")[0]) != hashing.DIGEST_CHARS or name.endswith(".corrupt"):
                    continue
                count, size_bytes = count + 1, size_bytes + info.st_size
                if hashing.digest_file(path) != name.partition(".")[0]:
                    os.replace(path, path + ".corrupt")
                    corrupt.append(name)
        users = [
            {"resource": one["resource"], "run": one["run"], "id": one["id"]}
            for one in self.listing()
            if corrupt and self._objects([one]).intersection(corrupt)
        ]
        return {"objects": count, "size_bytes": size_bytes, "corrupt": corrupt, "results": users}

    def _objects(self, results: Sequence[Mapping[str, Any]]) -> set[str]:
        """The names of all objects that these results are made of."""
        found: set[str] = set()
        for root in _roots(results):
            tree = trees.recall(self._layout, root)
            entries = tree.entries if tree is not None else []
            found.update(os.path.basename(self._store.object_path(entry)) for entry in entries if entry[3])
        return found

    def clean(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Take away what nobody needs, or only say what that would be (`dry_run`).

        {"results", "objects", "freed_bytes", "incoming", "work"}: `work` are folders of checkpoints (agent/leftovers.py).

        `in_force` are the (resource, fingerprint, id) that the state of the asking lineage holds; of another lineage it is what
        was last used of each resource. `keep_runs` says how many runs of each lineage keep what they made. Bytes count as
        freed when no output shares them. What transfers that broke off left here (`incoming`) goes too.
        """
        with self._store.held(alone=True):
            results = self.listing()
            needed = self._needed(results, request)
            gone = [one for one in results if _name(one) not in needed]
            kept = [one for one in results if _name(one) in needed]
            objects = self._objects(kept)
            listings = {*_roots(kept), *self._proven()}
            if not request.get("dry_run"):
                self._forget(gone)
            count, freed_bytes = 0, 0
            for path, info in list(self._store.all()):
                if os.path.basename(path) not in objects:
                    count, freed_bytes = count + 1, freed_bytes + (info.st_size if info.st_nlink == 1 else 0)
                    if not request.get("dry_run"):
                        unlink(path)
            for root in _roots(gone) - listings if not request.get("dry_run") else ():
                unlink(os.path.join(self._layout.trees, root))
        files, size_bytes = Incoming(self._layout).sweep(bool(request.get("dry_run")))
        work = leftovers.clear(self._layout, bool(request.get("dry_run")))
        freed_bytes += size_bytes + sum(one["size_bytes"] for one in work)
        incoming = {"files": files, "size_bytes": size_bytes}
        return {"results": gone, "kept": len(kept), "objects": count, "freed_bytes": freed_bytes, "incoming": incoming, "work": work}

    def _needed(self, results: Sequence[Mapping[str, Any]], request: Mapping[str, Any]) -> set[Name]:
        needed: set[Name] = {(item[0], item[1], item[2]) for item in request.get("in_force") or []}
        last: dict[tuple[str, str], Mapping[str, Any]] = {}
        runs: dict[str, set[str]] = {}
        for one in results:
            place = (one["lineage"], one["resource"])
            others = one["lineage"] != request["lineage"]
            if others and (place not in last or _used(one) >= _used(last[place])):
                last[place] = one
            runs.setdefault(one["lineage"], set()).add(one["run"])
        needed.update(_name(one) for one in last.values())
        newest = {lineage: sorted(names)[-request["keep_runs"] :] if request["keep_runs"] else [] for lineage, names in runs.items()}
        needed.update(_name(one) for one in results if one["run"] in newest[one["lineage"]])
        read = self._read_now()
        needed.update(_name(one) for one in results if read.intersection(_roots([one])))
        return needed | self._unrecorded()

    def _read_now(self) -> set[str]:
        """The roots that running attempts were started with."""
        found: set[str] = set()
        for folder in attempts.folders(self._layout):
            if attempts.state_of(folder)[0] in attempts.RUNNING:
                spec = read_json(os.path.join(folder, "spec")) or {}
                found.update(item["root"] for item in spec.get("inputs") or [] if item.get("root"))
        return found

    def _unrecorded(self) -> set[Name]:
        """What newest attempts made that no controller acknowledged: the next run adopts it."""
        newest = {os.path.dirname(folder): folder for folder in attempts.folders(self._layout)}
        unseen = [folder for folder in newest.values() if not os.path.exists(os.path.join(folder, "ack"))]
        proofs = [proof for folder in unseen if (proof := attempts.read_proof(folder)) is not None]
        return {(proof["resource"], proof["fingerprint"], result_id(proof["exit"]["outputs"])) for proof in proofs}

    def _proven(self) -> set[str]:
        """The roots that attempts have proven: their listings say what may be cleared, and name a change."""
        found: set[str] = set()
        for folder in attempts.folders(self._layout):
            proof = attempts.read_proof(folder) or {"exit": {"outputs": {}}}
            found.update(item["root"] for item in proof["exit"]["outputs"].values() if item["root"])
        return found

    def _forget(self, gone: Sequence[Mapping[str, Any]]) -> None:
        names = {_name(one) for one in gone}
        for resource, fingerprint in sorted({(one["resource"], one["fingerprint"]) for one in gone}):
            path = self._results.path(resource, fingerprint)
            lock = lock_file(os.path.join(os.path.dirname(path), ".lock"), LOCK_WAIT_S)
            try:
                body = read_json(path) or {"results": []}
                left = [one for one in body["results"] if (resource, fingerprint, one["id"]) not in names]
                if left:
                    replace_file(path, to_json({**body, "version": VERSION, "results": left}))
                else:
                    unlink(path)
            finally:
                if lock is not None:
                    os.close(lock)


def _name(one: Mapping[str, Any]) -> Name:
    return one["resource"], one["fingerprint"], one["id"]


def _used(one: Mapping[str, Any]) -> str:
    return one.get("used_utc") or one.get("at_utc") or ""


def _roots(results: Sequence[Mapping[str, Any]]) -> set[str]:
    return {proof["root"] for one in results for proof in one["outputs"].values() if proof["root"]}
