"""File: a file, a folder, a link, or the absence of one, with its mode and owner. Makes agent operations; runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources.base import Convergent, Instance, Item, probe_error, sh
from albor_pipeline.resources.fields import CONTENT, DOC, Fields, PathText, wrong
from albor_pipeline.resources.formats import Mode, Owner
from albor_pipeline.resources.shell import Script, join

STATES = {"dir": "directory", "link": "symlink"}
META = ("mode", "owner", "group")


class File(Fields):
    """A file, a folder, a link, or the absence of one; `content` and `source` exclude one another."""

    path: Annotated[PathText, CONTENT, Field(description="where it is on the machine")]
    state: Annotated[Literal["file", "directory", "symlink", "absent"], CONTENT, Field(description="what must be there")] = "file"
    content: Annotated[str | None, CONTENT, Field(description="the text of the file")] = None
    source: Annotated[PathText | None, CONTENT, Field(description="a file of the project that is copied to the machine")] = None
    target: Annotated[PathText | None, CONTENT, Field(description="where the link points")] = None
    mode: Annotated[Mode | None, CONTENT, Field(description="the permission bits, four octal digits such as 0644")] = None
    owner: Annotated[Owner | None, CONTENT, Field(description="the account that owns it")] = None
    group: Annotated[Owner | None, CONTENT, Field(description="the group that owns it")] = None
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""

    @model_validator(mode="after")
    def _fitting(self) -> File:
        if self.content is not None and self.source is not None:
            raise wrong("given either `content` or `source`")
        if self.state != "file" and (self.content is not None or self.source is not None):
            raise wrong("`state: file` to have `content` or `source`")
        if (self.state == "symlink") != (self.target is not None):
            raise wrong("`state: symlink` with a `target`, or neither")
        if self.state in ("symlink", "absent") and any(getattr(self, name) is not None for name in META):
            raise wrong("a file or a directory to have `mode`, `owner` or `group`")
        return self


class FileKind(Convergent):
    """The kind `file`: compared by content digest, type, mode and owner; written by rename, so no reader sees half of it."""

    name: ClassVar[str] = "file"
    model: ClassVar[type[Fields]] = File

    def probes(self, one: Instance) -> list[Item]:
        """One look at the path itself, a link not followed."""
        return [{"op": "stat", "path": one.fields.path}]

    def observe(self, one: Instance, results: Sequence[Mapping[str, Any]]) -> Observation:
        """State, mode, owner, group, and content digest or target, as far as they apply."""
        seen = results[0] if results else {}
        if "found" not in seen:
            return Observation(False, error=probe_error(seen))
        if not seen["found"]:
            return Observation(False, {"state": "absent"})
        kind = str(seen.get("type", "other"))
        values = {"state": STATES.get(kind, kind)}
        for name, key in (
            ("mode", "mode"),
            ("owner", "owner"),
            ("group", "group"),
            ("content", "digest"),
            ("target", "target"),
        ):
            if seen.get(key) is not None:
                values[name] = str(seen[key])
        return Observation(True, values)

    def wanted(self, one: Instance) -> Mapping[str, str]:
        """The declared values; content by its digest."""
        fields: File = one.fields
        values: dict[str, str] = {"state": fields.state}
        data = _data(one)
        if data is not None:
            values["content"] = digest_bytes(data)
        for name in ("target", *META):
            value = getattr(fields, name)
            if value is not None:
                values[name] = value
        return values

    def converge(self, one: Instance, observed: Observation) -> list[Item]:
        """Only what is needed: a thing of another type is taken away first; what is not declared stays as it is."""
        fields: File = one.fields
        found = observed.values.get("state", "absent")
        if fields.state == "absent":
            return self.remove(one)
        cleared = [] if found in ("absent", fields.state) else self.remove(one)
        declared = {name: getattr(fields, name) for name in META if getattr(fields, name) is not None}
        put: Item = {"verb": "put", "path": fields.path}
        if fields.state == "symlink":
            return [*cleared, {**put, "type": "link", "target": fields.target}]
        if fields.state == "directory":
            return [*cleared, {**put, "type": "dir", **declared}]
        data = _data(one)
        if found != "file":
            return [*cleared, {**put, "type": "file", "data": data or b"", **declared}]
        if data is not None and digest_bytes(data) != observed.values.get("content"):
            kept = {name: observed.values[name] for name in META if name in observed.values}
            return [{**put, "type": "file", "data": data, **kept, **declared}]
        commands = _meta(fields)
        return [sh(*commands)] if commands else []

    def remove(self, one: Instance) -> list[Item]:
        """The path and what is below it."""
        return [{"verb": "put", "path": one.fields.path, "type": "absent"}]


def _data(one: Instance) -> bytes | None:
    fields: File = one.fields
    if fields.content is not None:
        return fields.content.encode()
    return None if fields.source is None else one.read("source", fields.source)


def _meta(fields: File) -> list[Script]:
    commands = []
    if fields.owner is not None:
        commands.append(join(["chown", "--", fields.owner, fields.path]))
    if fields.group is not None:
        commands.append(join(["chgrp", "--", fields.group, fields.path]))
    if fields.mode is not None:
        commands.append(join(["chmod", "--", fields.mode, fields.path]))
    return commands
