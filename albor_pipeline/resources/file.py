"""File: a file, a folder, a link, or the absence of one, with its mode and owner; a folder with all that a folder of the project holds.

Makes agent operations; runs nothing. A folder that is declared no more is taken away only when it is empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.errors import ManifestError
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources.base import Convergent, Instance, Item, probe_error, sh
from albor_pipeline.resources.fields import CONTENT, DOC, Fields, PathText, wrong
from albor_pipeline.resources.formats import Mode, Owner
from albor_pipeline.resources.shell import Script, fixed, join, place

STATES = {"dir": "directory", "link": "symlink"}
META = ("mode", "owner", "group")
KEYS_INSIDE = {"state": "types", "content": "files", "target": "links", "mode": "modes", "owner": "owners", "group": "groups"}


class File(Fields):
    """A file, a folder, a link, or the absence of one; `content`, `source` and `template` exclude one another."""

    path: Annotated[PathText, CONTENT, Field(description="where it is on the machine")]
    state: Annotated[Literal["file", "directory", "symlink", "absent"], CONTENT, Field(description="what must be there")] = "file"
    content: Annotated[str | None, CONTENT, Field(description="the text of the file")] = None
    source: Annotated[
        PathText | None, CONTENT, Field(description="a file of the project that is copied to the machine; of a directory, a folder")
    ] = None
    template: Annotated[
        PathText | None, CONTENT, Field(description="a file of the project whose templates are filled in and which is copied then")
    ] = None
    target: Annotated[PathText | None, CONTENT, Field(description="where the link points")] = None
    mode: Annotated[Mode | None, CONTENT, Field(description="the permission bits, four octal digits such as 0644")] = None
    owner: Annotated[Owner | None, CONTENT, Field(description="the account that owns it")] = None
    group: Annotated[Owner | None, CONTENT, Field(description="the group that owns it")] = None
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""

    @model_validator(mode="after")
    def _fitting(self) -> File:
        if self.content is not None and self.source is not None:
            raise wrong("given one of `content`, `source` and `template`")
        if self.state != "file" and self.content is not None:
            raise wrong("`state: file` to have `content` or a `template`")
        if self.state not in ("file", "directory") and self.source is not None:
            raise wrong("`state: file` or `state: directory` to have a `source`")
        if (self.state == "symlink") != (self.target is not None):
            raise wrong("`state: symlink` with a `target`, or neither")
        if self.state in ("symlink", "absent") and any(getattr(self, name) is not None for name in META):
            raise wrong("a file or a directory to have `mode`, `owner` or `group`")
        return self


class FileKind(Convergent):
    """The kind `file`: compared by content digest, type, mode and owner; written by rename, so no reader sees half of it."""

    name: ClassVar[str] = "file"
    model: ClassVar[type[Fields]] = File
    precious: ClassVar[tuple[str, ...]] = ("state", "content", "target", "types", "files", "links")

    def probes(self, one: Instance) -> list[Item]:
        """One look at the path itself, a link not followed, and at each thing that its source holds, or held when it was put there."""
        return [{"op": "stat", "path": path} for path in (one.fields.path, *(_below(one, name) for name in (*_tree(one), *_dropped(one))))]

    def observe(self, one: Instance, results: Sequence[Mapping[str, Any]]) -> Observation:
        """State, mode, owner, group, and content digest or target, as far as they apply; of a tree `files.NAME` and so on."""
        seen = results[0] if results else {}
        if "found" not in seen:
            return Observation(False, error=probe_error(seen))
        if not seen["found"]:
            return Observation(False, {"state": "absent"})
        values = _values(seen)
        for name, inside in zip(_tree(one), results[1:], strict=False):
            values |= {f"{KEYS_INSIDE[key]}.{name}": value for key, value in _values(inside).items() if key in KEYS_INSIDE}
        for (name, before), inside in zip(_dropped(one).items(), results[1 + len(_tree(one)) :], strict=False):
            found = {f"{KEYS_INSIDE[key]}.{name}": value for key, value in _values(inside).items() if key in KEYS_INSIDE}
            values |= found if inside.get("found") else before
        return Observation(True, values)

    def wanted(self, one: Instance) -> Mapping[str, str]:
        """The declared values; content by its digest."""
        fields: File = one.fields
        values: dict[str, str] = {"state": fields.state}
        data = _data(one)
        if data is not None:
            values["content"] = digest_bytes(data)
        declared = _declared(fields)
        values |= {"target": fields.target} if fields.target is not None else {}
        values |= declared
        owners = {name: value for name, value in declared.items() if name != "mode"}
        for name, put in _tree(one).items():
            inside = {"content": digest_bytes(put["data"])} if put["type"] == "file" else {"target": put.get("target")}
            inside |= {"mode": put["mode"]} if put["type"] == "file" else {}
            told = {**inside, **owners} if put["type"] != "link" else inside
            values |= {f"{KEYS_INSIDE[key]}.{name}": value for key, value in told.items() if value is not None}
            if put["type"] == "dir":
                values[f"{KEYS_INSIDE['state']}.{name}"] = "directory"
        return values

    def converge(self, one: Instance, observed: Observation) -> list[Item]:
        """Only what is needed: a thing of another type is taken away first; what is not declared stays as it is."""
        fields: File = one.fields
        found = observed.values.get("state", "absent")
        if fields.state == "absent":
            return [_gone(fields.path)]
        cleared = [] if found in ("absent", fields.state) else [_gone(fields.path)]
        declared = _declared(fields)
        put: Item = {"verb": "put", "path": fields.path}
        if fields.state == "symlink":
            return [*cleared, {**put, "type": "link", "target": fields.target}]
        if fields.state == "directory":
            return [*cleared, {**put, "type": "dir", **declared}, *_missing(one, observed), *_withdrawn(one, observed)]
        data = _data(one)
        if found != "file":
            return [*cleared, {**put, "type": "file", "data": data or b"", **declared}]
        if data is not None and digest_bytes(data) != observed.values.get("content"):
            kept = {name: observed.values[name] for name in META if name in observed.values}
            return [{**put, "type": "file", "data": data, **kept, **declared}]
        commands = _meta(fields)
        return [sh(*commands)] if commands else []

    def again(self, one: Instance, observed: Observation) -> list[Item]:
        """The file written anew, where its content is declared; nothing else can be done twice, and bytes that are not ours stay."""
        known = {name: value for name, value in observed.values.items() if name != "content" and not name.startswith("files.")}
        return self.converge(one, Observation(observed.exists, known))

    def made(self, one: Instance, observed: Observation) -> list[str]:
        """Of what its source holds: what we put there before, and what is not there as it should be."""
        wanted = self.wanted(one)
        lacking = {name.partition(".")[2] for name, value in wanted.items() if observed.values.get(name) != value}
        return [name for name in _tree(one) if name in lacking or name in (one.ours or ())]

    def leaves(self, one: Instance, observed: Observation) -> list[str]:
        """What left the source and is not ours, or not as we put it there."""
        why = {True: "it was changed there", False: "it was there before"}
        return [f"{_below(one, name)} stays: {why[_is_ours(one, name)]}" for name in _dropped(one) if not _may_go(one, name, observed)]

    def remove(self, one: Instance) -> list[Item]:
        """The path; of a folder what came from its source, then the folder when it is empty."""
        fields: File = one.fields
        if fields.state != "directory":
            return [_gone(fields.path)]
        inside = [(_below(one, name), put["type"]) for name, put in _tree(one).items()]
        files = [_gone(path) for path, kind in inside if kind != "dir"]
        folders = [path for path, kind in reversed(inside) if kind == "dir"]
        return [*files, *({"verb": "put", "path": path, "type": "vacant"} for path in (*folders, fields.path))]


def _values(seen: Mapping[str, Any]) -> dict[str, str]:
    """What one look says, by the names of the fields."""
    kind = str(seen.get("type", "other")) if seen.get("found") else "absent"
    keys = {"mode": "mode", "owner": "owner", "group": "group", "content": "digest", "target": "target"}
    values = {name: str(seen[key]) for name, key in keys.items() if seen.get(key) is not None}
    return {"state": STATES.get(kind, kind), **values}


def _declared(fields: File) -> dict[str, str]:
    return {name: getattr(fields, name) for name in META if getattr(fields, name) is not None}


def _gone(path: str) -> Item:
    return {"verb": "put", "path": path, "type": "absent"}


def _below(one: Instance, name: str) -> str:
    return f"{one.fields.path.rstrip('/')}/{name}"


def _tree(one: Instance) -> dict[str, Item]:
    """What a folder holds that a directory is filled from, in order: by relative path its type, and data and mode or target."""
    if "tree" not in one.memo:
        one.memo["tree"] = _read_tree(one)
    tree: dict[str, Item] = one.memo["tree"]
    return tree


def _read_tree(one: Instance) -> dict[str, Item]:
    fields: File = one.fields
    if fields.state != "directory" or fields.source is None:
        return {}
    root = one.root / fields.source
    if not root.is_dir():
        raise ManifestError.of("unreadable", f"`{one.resource.id}` reads `{fields.source}`, which is no folder", span=one.place("source"))
    found: dict[str, Item] = {}
    one.looked_for.add(f"{fields.source}/")
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = {"type": "link", "target": str(path.readlink())}
        elif path.is_dir():
            one.looked_for.add(f"{fields.source}/{name}/")
            found[name] = {"type": "dir"}
        else:
            mode = "0755" if path.stat().st_mode & 0o100 else "0644"
            found[name] = {"type": "file", "data": one.read("source", f"{fields.source}/{name}"), "mode": mode}
    return found


def _missing(one: Instance, observed: Observation) -> list[Item]:
    """The operations for what is not there as the source has it."""
    owners = {name: value for name, value in _declared(one.fields).items() if name != "mode"}
    wanted = FileKind().wanted(one)
    operations: list[Item] = []
    for name, put in _tree(one).items():
        keys = [f"{word}.{name}" for word in KEYS_INSIDE.values()]
        if all(observed.values.get(key) == wanted[key] for key in keys if key in wanted):
            continue
        kind = observed.values.get(f"{KEYS_INSIDE['state']}.{name}", "absent")
        path = _below(one, name)
        operations += [] if kind in ("absent", STATES.get(put["type"], put["type"])) else [_gone(path)]
        operations.append({"verb": "put", "path": path, **put, **(owners if put["type"] != "link" else {})})
    return operations


def _dropped(one: Instance) -> dict[str, dict[str, str]]:
    """What we recorded of things that the source held and holds no more: by relative path its values."""
    if one.fields.state != "directory":
        return {}
    if "dropped" in one.memo:
        known: dict[str, dict[str, str]] = one.memo["dropped"]
        return known
    found: dict[str, dict[str, str]] = {}
    one.memo["dropped"] = found
    for key, value in one.before.items():
        word, dot, name = key.partition(".")
        if dot and word in KEYS_INSIDE.values() and name not in _tree(one):
            found.setdefault(name, {})[key] = value
    return found


def _is_ours(one: Instance, name: str) -> bool:
    return one.ours is None or name in one.ours


def _may_go(one: Instance, name: str, observed: Observation) -> bool:
    """Whether it is ours and nobody changed it since."""
    return _is_ours(one, name) and all(observed.values.get(key) == value for key, value in _dropped(one)[name].items())


def _withdrawn(one: Instance, observed: Observation) -> list[Item]:
    """The operations for what left the source: files first, then the folders that are empty by then, the innermost first."""
    names = [name for name in sorted(_dropped(one), reverse=True) if _may_go(one, name, observed)]
    folders = [name for name in names if f"{KEYS_INSIDE['state']}.{name}" in one.before]
    empty = fixed('if [ -d "$1" ] && [ ! -L "$1" ]; then rmdir -- "$1" 2>/dev/null || :; fi')
    return [
        *(_gone(_below(one, name)) for name in names if name not in folders),
        *([sh(*(each for name in folders for each in (join(["set", "--", place(_below(one, name))]), empty)))] if folders else []),
    ]


def _data(one: Instance) -> bytes | None:
    fields: File = one.fields
    if fields.content is not None:
        return fields.content.encode()
    return None if fields.source is None or fields.state == "directory" else one.read("source", fields.source)


def _meta(fields: File) -> list[Script]:
    commands = []
    if fields.owner is not None:
        commands.append(join(["chown", "--", fields.owner, place(fields.path)]))
    if fields.group is not None:
        commands.append(join(["chgrp", "--", fields.group, place(fields.path)]))
    if fields.mode is not None:
        commands.append(join(["chmod", "--", fields.mode, place(fields.path)]))
    return commands
