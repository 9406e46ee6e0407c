"""GithubRelease: a program out of a published release. Makes agent operations; downloads nothing itself.

Which release and which file came, and the digest of the program, lie in a record on the machine: the program is compared with it.
`latest` is the newest release when the program is installed; a later one is no difference, so that a plan asks no server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from albor_pipeline.agent.layout import quote
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources import releases
from albor_pipeline.resources.base import Brought, Convergent, Instance, Item, look, probe_error, sh
from albor_pipeline.resources.fields import CONTENT, DOC, Fields
from albor_pipeline.resources.formats import AbsolutePath, Word, matching
from albor_pipeline.resources.shell import Script, join

INSTALL_TIMEOUT_S = 1800.0
AS_INSTALLED = "as installed"
FOR_THIS_MACHINE = "the one for this machine"
Repository = Annotated[str, matching("[A-Za-z0-9-]+/[A-Za-z0-9._-]+", "OWNER/NAME")]
Program = Annotated[str, matching(r"(?!\.{1,2}$)[^/\s]+", "the name of a program, without a folder")]


class GithubRelease(Fields):
    """A program out of a published release; `latest` is the newest one, whatever its tag."""

    repo: Annotated[Repository, CONTENT, Field(description="the repository, OWNER/NAME")]
    binary: Annotated[Program, CONTENT, Field(description="the name of the program")]
    state: Annotated[Literal["present", "absent"], CONTENT, Field(description="whether it is installed")] = "present"
    tag: Annotated[Word, CONTENT, Field(description="the tag of the release; `latest` is the newest when it is installed")] = "latest"
    asset_pattern: Annotated[
        Word | None, CONTENT, Field(description="a glob that the name of the asset matches; without it the one for the machine's processor")
    ] = None
    install_dir: Annotated[AbsolutePath, CONTENT, Field(description="the folder it is installed in")] = "/usr/local/bin"
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""


class GithubReleaseKind(Convergent):
    """The kind `github_release`: compared by what its record says and whether the program still is what was installed."""

    name: ClassVar[str] = "github_release"
    model: ClassVar[type[Fields]] = GithubRelease
    precious: ClassVar[tuple[str, ...]] = ("content",)

    def probes(self, one: Instance) -> list[Item]:
        """One look at the record and the program."""
        return [look(_program(releases.LOOK, {"record": _record(one), "path": _path(one)}))]

    def observe(self, one: Instance, results: Sequence[Mapping[str, Any]]) -> Observation:
        """State, where it came from, and whether it is as it was installed."""
        seen = results[0] if results else {}
        try:
            found = json.loads(str(seen["stdout"]))
            record, content, mode = found["record"] or {}, found["content"], found["mode"]
            error = found.get("error")
        except (ValueError, KeyError, TypeError):
            said = str(seen.get("stderr", "")).strip()
            return Observation(False, error=said.splitlines()[-1] if said else probe_error(seen))
        if error:
            return Observation(False, error=str(error))
        if content is None:
            return Observation(False, {"state": "absent"})
        values = {"state": "present", "content": f"sha256:{content[:12]}, which nothing here installed", "mode": str(mode)}
        if isinstance(record, Mapping) and record.get("sha256"):
            values |= {"repo": str(record.get("repo")), "tag": str(record.get("tag"))}
            values["asset"] = str(record.get("pattern") or FOR_THIS_MACHINE)
            values["content"] = AS_INSTALLED if content == record["sha256"] else f"sha256:{content[:12]}, not as installed"
        return Observation(True, values)

    def wanted(self, one: Instance) -> Mapping[str, str]:
        """Where it comes from, and that it is as it was installed."""
        fields: GithubRelease = one.fields
        if fields.state == "absent":
            return {"state": "absent"}
        source = {"repo": fields.repo, "tag": fields.tag, "asset": fields.asset_pattern or FOR_THIS_MACHINE}
        return {"state": "present", "content": AS_INSTALLED, "mode": "0755", **source}

    def converge(self, one: Instance, observed: Observation) -> list[Item]:
        """The mode alone where only that differs; else the program, put in place whole."""
        fields: GithubRelease = one.fields
        if fields.state == "absent":
            return self.remove(one)
        if self._off(one, observed) == {"mode"}:
            return [sh(join(["chmod", "0755", _path(one)]))]
        return [sh(_program(releases.INSTALL, _asked(one)), timeout_s=INSTALL_TIMEOUT_S)]

    def remove(self, one: Instance) -> list[Item]:
        """The program and its record."""
        return [{"verb": "put", "path": path, "type": "absent"} for path in (_path(one), _record(one))]

    def weighs(self, one: Instance, observed: Observation) -> list[Item]:
        """The size of the asset that would be installed: its server is asked."""
        installs = one.fields.state != "absent" and self._off(one, observed) != {"mode"}
        return [look(_program(releases.INSTALL, {**_asked(one), "weigh": "yes"}))] if installs else []

    def brings(self, one: Instance, observed: Observation, results: Sequence[Mapping[str, Any]]) -> list[Brought]:
        """The asset, and the program; nobody knows how large that is before it is unpacked."""
        if not results:
            return []
        try:
            return [Brought(str(path), size) for path, size in json.loads(str(results[0]["stdout"]))]
        except (ValueError, KeyError, TypeError):
            return [Brought("", None)]

    def _off(self, one: Instance, observed: Observation) -> set[str]:
        return {name for name, value in self.wanted(one).items() if observed.values.get(name) != value}


def _asked(one: Instance) -> dict[str, str | None]:
    fields: GithubRelease = one.fields
    asked = {"repo": fields.repo, "tag": fields.tag, "pattern": fields.asset_pattern, "binary": fields.binary}
    return {**asked, "path": _path(one), "record": _record(one)}


def _program(text: str, asked: Mapping[str, str | None]) -> Script:
    return join(["python3", "-I", "-c", text, json.dumps(asked)])


def _path(one: Instance) -> str:
    fields: GithubRelease = one.fields
    return f"{fields.install_dir.rstrip('/')}/{fields.binary}"


def _record(one: Instance) -> str:
    return f".albor/releases/{quote(one.resource.id)}"
