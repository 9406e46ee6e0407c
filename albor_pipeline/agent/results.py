"""Results: what each fingerprint of a resource came to, which of it is kept, and giving it back. Starts no command.

    .albor/store/results/<resource>/<fingerprint>    {"version", "resource", "fingerprint", "parts", "results": [...]}

A task whose bytes differ from run to run has several results of one fingerprint; the last in the list was last in force.
Giving one back is exclusive with every attempt of the resource, and takes nothing away before all of the new is there.
"""

from __future__ import annotations

import contextlib
import errno
import os

from albor_pipeline.agent import attempts, crew, facts, hashing, trees
from albor_pipeline.agent.attempts import AttemptError
from albor_pipeline.agent.hashing import StatCache
from albor_pipeline.agent.layout import FULL, Layout, lock_file, quote, read_json, replace_file, temporary, to_json, utc
from albor_pipeline.agent.outputs import Files, OutputError
from albor_pipeline.agent.store import COPY, Store, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

VERSION = 1
LOCK_WAIT_S = 10.0
KEPT = "kept"
FIELDS = ("lineage", "run", "number", "seconds", "at_utc", "summary")


class Results:
    """The index of one workdir, and the store behind it."""

    def __init__(self, layout: Layout, cache: StatCache) -> None:
        self._layout = layout
        self._cache = cache
        self.store = Store(layout, cache)

    def keep(self, spec: Mapping[str, Any], end: Mapping[str, Any], made: Mapping[str, trees.Tree]) -> str:
        """Keep the trees that an attempt `made`, and write it into the index; what could not be kept, and why. Raises OSError."""
        why = ""
        kept: dict[str, str] = {}
        with self.store.held():
            for path, tree in made.items():
                try:
                    kept[path] = self.store.keep(self._layout.path(path), tree, spec["keep"] == "all")
                except (StoreError, OSError) as error:
                    full = "; free some, or see `store gc --dry-run`" if getattr(error, "errno", None) in FULL else ""
                    why = why or "%s is not kept: %s%s" % (path, _text(error), full)
            self._cache.save()
            result = {
                "id": result_id(end["outputs"]),
                **{key: spec.get(key, end.get(key)) for key in FIELDS},
                "outputs": end["outputs"],
                "kept": kept,
            }
            self._add({key: spec.get(key) for key in ("resource", "fingerprint", "parts")}, result)
        return why

    def path(self, resource: str, fingerprint: str) -> str:
        """Where the results of one fingerprint are listed."""
        return os.path.join(self._layout.results, quote(resource), os.path.basename(fingerprint))

    def _add(self, about: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Make `result` the last one of its fingerprint."""
        path = self.path(about["resource"], about["fingerprint"])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        lock = lock_file(os.path.join(os.path.dirname(path), ".lock"), LOCK_WAIT_S)
        try:
            known = (read_json(path) or {}).get("results") or []
            others = [each for each in known if each["id"] != result["id"]]
            replace_file(path, to_json({"version": VERSION, **about, "results": [*others, result]}))
        finally:
            if lock is not None:
                os.close(lock)

    def rename(self, before: str, after: str, lineage: str) -> None:
        """Give what a lineage keeps of a resource the name that the resource has now; the results of others stay. Raises OSError."""
        base = os.path.join(self._layout.results, quote(before))
        for name in sorted(os.listdir(base)) if os.path.isdir(base) else ():
            path = os.path.join(base, name)
            body = read_json(path) if not name.startswith(".") else None
            if body is None:
                continue
            mine = [one for one in body["results"] if one["lineage"] == lineage]
            for one in mine:
                self._add({"resource": after, "fingerprint": body["fingerprint"], "parts": body["parts"]}, one)
            others = [one for one in body["results"] if one not in mine]
            if others and mine:
                replace_file(path, to_json({**body, "results": others}))
            elif mine:
                os.unlink(path)

    def listing(self, resource: str, fingerprint: str | None = None, outputs: bool = False) -> list[dict[str, Any]]:
        """The results of a resource, or of one fingerprint of it, with what of each is `missing`; last in force last.

        With `outputs` nothing is missing that still lies where it was made, though the store does not keep it.
        """
        base = os.path.join(self._layout.results, quote(resource))
        try:
            names = sorted(os.listdir(base)) if fingerprint is None else [fingerprint]
        except FileNotFoundError:
            return []
        found = []
        for name in names:
            body = read_json(os.path.join(base, name)) if not name.startswith(".") else None
            for result in (body or {}).get("results") or []:
                about = {key: body[key] for key in ("resource", "fingerprint", "parts")} if body else {}
                found.append({**about, **result, "missing": self._missing(result, fingerprint is not None, outputs)})
        return found

    def _missing(self, result: Mapping[str, Any], look: bool, outputs: bool) -> str:
        """Why a result cannot be given back, as far as stat tells; empty when it can."""
        for path, proof in result["outputs"].items():
            if proof["root"] is None:
                if not os.path.lexists(self._layout.path(path)):
                    return "%s is volatile" % path
                continue
            if outputs and look and self._lies_there(path, proof["root"]):
                continue
            if path not in result[KEPT]:
                return "%s is not kept" % path
            if look:
                tree = trees.recall(self._layout, proof["root"])
                lost = self.store.missing(tree) if tree is not None else "its listing is gone from the store"
                if lost:
                    return "%s: %s" % (path, lost)
        return ""

    def _lies_there(self, path: str, root: str) -> bool:
        tree = trees.read_tree(self._layout.path(path), self._cache.digest)
        return tree is not None and tree.root == root

    def resources(self) -> list[str]:
        """The folder names of all resources that have results."""
        return sorted(os.listdir(self._layout.results)) if os.path.isdir(self._layout.results) else []

    def restore(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Put the outputs of one result back, and make it the one in force. Raises AttemptError `busy`, `not-kept`; OSError.

        `source` is another workdir of this machine whose store has the result; it is then kept here too. `brought` is a result of
        another machine, {"parts", "result"}, whose objects came here before.
        """
        resource, fingerprint = request["resource"], request["fingerprint"]
        if request.get("brought"):
            self._enter(resource, fingerprint, request["brought"])
        other = Results(Layout(request["source"]), self._cache) if request.get("source") else self
        with self._alone(resource), self.store.held(), other.store.held() if other is not self else contextlib.nullcontext():
            found = [each for each in other.listing(resource, fingerprint) if each["id"] == request["result"]]
            if not found:
                raise AttemptError("not-kept", "no such result of %s is kept" % resource)
            result = found[0]
            files = Files(self._layout, {**request, "outputs": self._outputs(result)}, self._cache)
            try:
                self._put_back(result, files, os.path.join(self._layout.attempts, quote(resource)), other)
                if other is not self:
                    result[KEPT] = self._keep_from(other, result)
            except StoreError as error:
                raise AttemptError("not-kept", str(error)) from None
            except OutputError as error:
                raise AttemptError("io", str(error)) from None
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                raise AttemptError("io", self._no_room(result, files.paths)) from None
            self._cache.save()
            about = {key: result.pop(key) for key in ("resource", "fingerprint", "parts")}
            del result["missing"]
            self._add(about, {**result, "lineage": request["lineage"], "run": request["run"], "used_utc": utc()})
        return {"outputs": result["outputs"], "kept": files.kept}

    def _enter(self, resource: str, fingerprint: str, brought: Mapping[str, Any]) -> None:
        """Write a result that was made elsewhere into the index; whether its objects are here is looked at when it is used."""
        result = brought["result"]
        kept = {path: COPY for path, proof in result["outputs"].items() if proof["root"] is not None}
        self._add({"resource": resource, "fingerprint": fingerprint, "parts": brought["parts"]}, {**result, KEPT: kept})

    def _outputs(self, result: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The outputs that are not as the result has them."""
        off = []
        for path, proof in result["outputs"].items():
            if proof["root"] is None:
                continue
            now = trees.read_tree(self._layout.path(path), self._cache.digest)
            if now is None or now.root != proof["root"]:
                off.append({"path": path})
        return off

    def _no_room(self, result: Mapping[str, Any], paths: Sequence[str]) -> str:
        wanted = sum(result["outputs"][path]["size_bytes"] for path in paths)
        free = facts.disk_free_bytes(self._layout.workdir)
        text = "no room to put %s back: up to %d bytes are needed, %d are free in the working directory; free some, or `store gc`"
        return text % (", ".join(paths), wanted, free)

    def _keep_from(self, other: Results, result: Mapping[str, Any]) -> dict[str, str]:
        """Keep what was just put in place; what cannot be kept only costs the way back."""
        kept: dict[str, str] = {}
        for path, proof in result["outputs"].items():
            tree = trees.recall(other._layout, proof["root"]) if proof["root"] else None
            if tree is not None:
                trees.record(self._layout, tree)
                with contextlib.suppress(StoreError, OSError):
                    kept[path] = self.store.keep(self._layout.path(path), tree)
        return kept

    def _put_back(self, result: Mapping[str, Any], files: Files, base: str, other: Results) -> None:
        built: list[tuple[str, list[tuple[str, str]]]] = []
        try:
            for path in files.paths:
                tree = trees.recall(other._layout, result["outputs"][path]["root"])
                if tree is None:
                    raise StoreError("the listing of %s is gone from the store" % path)
                built.append(self._prepare(self._layout.path(path), tree))
                build(built[-1][0], tree, other.store)
            files.clear(base)
            for _name, moves in built:
                for source, target in moves:
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    os.rename(source, target)
        finally:
            for name, _moves in built:
                if os.path.lexists(name):
                    attempts.remove_tree(name)

    def _prepare(self, path: str, tree: trees.Tree) -> tuple[str, list[tuple[str, str]]]:
        """A temporary name on the file system of `path`, and what is to be moved from there to where once it is built."""
        if tree.type != "glob":
            target = os.path.realpath(path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            name = temporary(target)
            return name, [(name, target)]
        base = trees.fixed_part(path)
        os.makedirs(base, exist_ok=True)
        name = temporary(os.path.join(base, "glob"))
        leaves = [entry[0] for entry in tree.entries if entry[1] != "d"]
        return name, [(os.path.join(name, leaf), os.path.join(base, leaf)) for leaf in leaves]

    @contextlib.contextmanager
    def _alone(self, resource: str) -> Iterator[None]:
        """Hold the resource against every start; raises AttemptError `busy` while an attempt of it runs."""
        base = os.path.join(self._layout.attempts, quote(resource))
        os.makedirs(base, exist_ok=True)
        lock = lock_file(os.path.join(base, ".lock"), LOCK_WAIT_S)
        if lock is None:
            raise AttemptError("busy", "a start of %s is under way" % resource)
        try:
            for _number, folder in reversed(attempts.numbered(base)):
                if attempts.state_of(folder)[0] in attempts.RUNNING:
                    raise AttemptError("busy", "an attempt of %s runs" % resource, attempts.describe(self._layout, folder))
            yield
        finally:
            os.close(lock)


def build(name: str, tree: trees.Tree, store: Store) -> None:
    """Make `name`, which nobody else knows yet, what a tree says. Raises StoreError, OSError."""
    if tree.type != "file":
        os.mkdir(name)
    near, big = store.is_near(os.path.dirname(name)), []
    for entry in tree.entries:
        where = trees.place(name, entry[0])
        if tree.type == "glob":
            os.makedirs(os.path.dirname(where), exist_ok=True)
        if entry[1] == "f" and entry[4] > hashing.SMALL_BYTES:
            big.append((entry, where))
        elif entry[1] != "d" or not os.path.isdir(where):
            store.give(entry, where, near)
    crew.each(lambda item: store.give(*item, near), big, hashing.default_threads())


def result_id(outputs: Mapping[str, Mapping[str, Any]]) -> str:
    """What tells results of one fingerprint apart: a digest of their roots, 12 characters."""
    lines = ["%s %s\0" % (path, outputs[path]["root"] or "-") for path in sorted(outputs)]
    return hashing.digest_bytes("".join(lines).encode("utf-8", "surrogateescape"))[:12]


def _text(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return "%s: %s" % (error.filename, error.strerror) if error.filename else error.strerror
    return str(error)

