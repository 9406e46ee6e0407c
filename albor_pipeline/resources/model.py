"""Model: the files of a language model on the machine, from the hub, an address or a path. Makes operations; downloads nothing.

What is fetched is put together beside the path (`PATH.part`) and moved there when it is complete and what it should be; a download
that was cut off goes on at its byte. `PATH.albor.json` records what was fetched, so that a later change is seen without reading it all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.errors import ManifestError
from albor_pipeline.model.addresses import shown
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources.base import Brought, Convergent, Instance, Item, look, probe_error, sh
from albor_pipeline.resources.fields import CONTENT, DOC, POLICY, Fields, PathText, Text
from albor_pipeline.resources.formats import Account, matching
from albor_pipeline.resources.shell import Script, fixed, join, place

FETCH_TIMEOUT_S = 86400.0
LOOK_TIMEOUT_S = 60.0
DEEP_TIMEOUT_S = 3600.0
FOLDER = ".albor/models"
PRESENT, ABSENT, AS_FETCHED = "present", "absent", "as fetched"
HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
ADDRESS = re.compile(r"https?://")
ONE_FILE = (".gguf", ".safetensors", ".bin", ".pt", ".pth", ".onnx", ".ckpt")
BLAKE3 = "blake3:"
Checksum = Annotated[str, matching("(?:blake3:)?[0-9a-fA-F]{64}", "a BLAKE3 digest: 64 hexadecimal digits")]
Source = Annotated[str, matching(r"[^\s\0]{1,4000}", "an address, a path or OWNER/NAME, of at most 4,000 characters without spaces")]
Shape = Annotated[str, matching(r"[A-Za-z0-9][\w.+-]{0,40}", "a word such as gguf or q4_k_m")]
Revision = Annotated[str, matching(r"[A-Za-z0-9][\w./-]*", "a commit, a tag or a branch")]


class Model(Fields):
    """The files of a language model; `source` is an address, a path, or OWNER/NAME on the hub."""

    name: Annotated[Text, CONTENT, Field(description="the name of the model, and of its folder where no `path` is given")]
    state: Annotated[Literal["present", "absent"], CONTENT, Field(description="whether it is there")] = "present"
    path: Annotated[
        PathText | None, CONTENT, Field(description="where it is on the machine: a file, or a folder, as with `/` at its end")
    ] = None
    source: Annotated[Source | None, CONTENT, Field(description="where it comes from")] = None
    revision: Annotated[
        Revision | None, CONTENT, Field(description="the commit, tag or branch on the hub; only a commit is the same for ever")
    ] = None
    format: Annotated[
        Shape | None, CONTENT, Field(description="the format of its files: those are chosen on the hub, and what came must be that")
    ] = None
    quantization: Annotated[
        Shape | None, CONTENT, Field(description="how its weights are quantized: those files are chosen, and what came must be that")
    ] = None
    checksum: Annotated[
        Checksum | None, CONTENT, Field(description="the BLAKE3 digest that it must have; of a folder, that of its tree")
    ] = None
    cache_dir: Annotated[
        PathText | None, CONTENT, Field(description="the folder that downloads are kept in, so that they are not made again")
    ] = None
    owner: Annotated[Account | None, CONTENT, Field(description="the account that owns its files")] = None
    token: Annotated[Text | None, POLICY, Field(description="what the hub or the server is asked with; it may be a secret")] = None
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""


class ModelKind(Convergent):
    """The kind `model`: nothing stands at its path that was not fetched whole and found to be what is declared."""

    name: ClassVar[str] = "model"
    model: ClassVar[type[Fields]] = Model
    precious: ClassVar[tuple[str, ...]] = ("source", "files")

    def probes(self, one: Instance) -> list[Item]:
        """What lies there, by its record and its headers; its digest where one is declared, which is read only when it changed."""
        path = _path(one)
        limit_s = DEEP_TIMEOUT_S if one.deep else LOOK_TIMEOUT_S
        items = [look(*_program("model_look.py", {**_places(one), "deep": one.deep}), timeout_s=limit_s)]
        if one.fields.checksum is not None:
            items += [{"op": "stat", "path": path}, {"op": "tree", "path": path}]
        return items

    def observe(self, one: Instance, results: Sequence[Mapping[str, Any]]) -> Observation:
        """State, and of a model that is there: where it came from, whether it is as it was fetched, and what it is."""
        fields: Model = one.fields
        seen, error = _answer(results)
        if error:
            return Observation(False, error=error)
        if seen.get("type") == ABSENT:
            part = seen.get("part_bytes")
            found = f"a part of it, {part / 1e9:.1f} GB" if isinstance(part, int) and part and fields.state != ABSENT else ABSENT
            return Observation(found != ABSENT, {"state": found})
        values = {"state": PRESENT, **_origin(fields, seen)}
        values |= {name: str(seen.get(name)) for name in ("format", "quantization", "owner") if getattr(fields, name) is not None}
        if fields.checksum is not None:
            digest = _digest(results)
            values["checksum"] = digest
            if digest == _hex(fields.checksum):
                values |= {"files": AS_FETCHED, **_asked(fields)}
        return Observation(True, values)

    def wanted(self, one: Instance) -> Mapping[str, str]:
        """What is declared; ManifestError for a model that is to be there without a source."""
        fields: Model = one.fields
        if fields.state == ABSENT:
            return {"state": ABSENT}
        if fields.source is None:
            note = "name its `source`: an address, a path on the machine, or OWNER/NAME on the hub"
            text = f"`{one.resource.id}` does not say where the model comes from"
            raise ManifestError.of("no-source", text, note, span=one.resource.span)
        values = {"state": PRESENT, "files": AS_FETCHED, **_asked(fields)}
        values |= {name: getattr(fields, name) for name in ("format", "quantization", "owner") if getattr(fields, name) is not None}
        return values if fields.checksum is None else {**values, "checksum": _hex(fields.checksum)}

    def converge(self, one: Instance, observed: Observation) -> list[Item]:
        """Fetch it whole, see what it is, and move it to its place; where only the owner differs, change that."""
        fields: Model = one.fields
        if fields.state == ABSENT:
            return _removing(one, strict=True)
        if not self._is_fetched(one, observed):
            off = fields.owner is not None and observed.values.get("owner") != fields.owner
            return [sh(_chown(fields, _path(one)))] if off else []
        places = _places(one)
        result, path = f"{places['part']}/result", places["path"]
        request = {**places, **_source(one), "token": fields.token or ""}
        operations = [sh(*_program("model_fetch.py", request), timeout_s=FETCH_TIMEOUT_S)]
        spoilt = join(["rm", "-rf", "--", place(places["part"]), *([place(request["cache"])] if request["cache"] else [])])
        if fields.format is not None or fields.quantization is not None:
            check, program = _program("model_look.py", {**places, "path": result, "expect": True})
            operations.append(sh(check, fixed("check() {"), program, fixed("}"), fixed("check || {"), spoilt, fixed("exit 1; }")))
        kept = _program("model_look.py", {**places, "keep": result, "proven": fields.checksum is not None})
        last = [join(["mv", "-f", "--", place(f"{places['part']}/record.json"), place(places["record"])])]
        operations.append(sh(*([_chown(fields, result)] if fields.owner is not None else []), *kept, *last))
        digest = None if fields.checksum is None else _hex(fields.checksum)
        discard = [places["part"], *([request["cache"]] if request["cache"] else [])]
        operations.append({"verb": "place", "path": result, "to": path, "digest": digest, "discard": discard})
        return [*operations, {"verb": "put", "path": places["part"], "type": "absent"}]

    def remove(self, one: Instance) -> list[Item]:
        """What was fetched, its record, and what was got of it; what is kept in `cache_dir` or was added by somebody stays."""
        return _removing(one, strict=False)

    def forecasts(self, one: Instance, observed: Observation) -> list[Item]:
        """Whether a path on the machine that it comes from is there."""
        source = one.fields.source or ""
        known = one.fields.state == ABSENT or ADDRESS.match(source) or HUB.fullmatch(source)
        return [] if known else [{"op": "sh", "script": str(_test(source)), "timeout_s": LOOK_TIMEOUT_S}]

    def forecast(self, one: Instance, observed: Observation, results: Sequence[Mapping[str, Any]]) -> list[str]:
        """That it is not."""
        return [] if results and results[0].get("exit") == 0 else [f"there is no {one.fields.source} on this machine to take it from"]

    def weighs(self, one: Instance, observed: Observation) -> list[Item]:
        """The sizes of what is to be fetched and is not there: the hub and servers are asked for them, once."""
        request = {**_places(one), **_source(one), "token": one.fields.token or "", "weigh": True}
        asked = one.fields.state != ABSENT and self._is_fetched(one, observed)
        return [look(*_program("model_fetch.py", request), timeout_s=LOOK_TIMEOUT_S)] if asked else []

    def brings(self, one: Instance, observed: Observation, results: Sequence[Mapping[str, Any]]) -> list[Brought]:
        """What they said."""
        if not results:
            return []
        told, error = _answer(results)
        return [Brought("", None)] if error else [Brought(path, size) for path, size in told["weight"]]

    def _is_fetched(self, one: Instance, observed: Observation) -> bool:
        """Whether more than its owner differs."""
        off = {name for name, value in self.wanted(one).items() if observed.values.get(name) != value}
        return not observed.exists or not off <= {"owner"}


def _removing(one: Instance, *, strict: bool) -> list[Item]:
    places = _places(one)
    gone = sh(*_program("model_look.py", {**places, "remove": True, "strict": strict}), timeout_s=LOOK_TIMEOUT_S)
    return [gone, *({"verb": "put", "path": places[name], "type": "absent"} for name in ("record", "part"))]


def _test(source: str) -> Script:
    home = source.startswith("~/")
    return join([fixed("set --"), source[2:] if home else source, fixed('; test -e "$HOME/$1"' if home else '; test -e "$1"')])


def _path(one: Instance) -> str:
    fields: Model = one.fields
    path = fields.path or f"{FOLDER}/{fields.name.replace('/', '--')}"
    return path.rstrip("/") or "/"


def _places(one: Instance) -> dict[str, Any]:
    path, fields = _path(one), one.fields
    return {
        "path": path, "part": f"{path}.part", "record": f"{path}.albor.json",
        "format": fields.format or "", "quantization": fields.quantization or "",
    }  # fmt: skip


def _source(one: Instance) -> dict[str, Any]:
    fields: Model = one.fields
    source, path = fields.source or "", fields.path or ""
    hub = HUB.fullmatch(source) is not None
    suffixes = (*ONE_FILE, f".{fields.format.lower()}") if fields.format else ONE_FILE
    single = path.lower().endswith(suffixes) if hub else bool(path) and not path.endswith("/")
    asked = json.dumps([shown(source), fields.revision, fields.format, fields.quantization, single])
    cached = f"{fields.cache_dir.rstrip('/')}/{digest_bytes(asked.encode())[:16]}" if fields.cache_dir else ""
    return {"source": source, "shown": shown(source), "revision": fields.revision or "", "hub": hub, "single": single, "cache": cached}


def _asked(fields: Model) -> dict[str, str]:
    source = None if fields.source is None else shown(fields.source)
    return {name: value for name, value in (("source", source), ("revision", fields.revision)) if value is not None}


def _origin(fields: Model, seen: Mapping[str, Any]) -> dict[str, str]:
    """Source, revision and wholeness as recorded; what nobody recorded came from somebody else."""
    record = seen.get("record")
    if not isinstance(record, Mapping):
        return {"source": "unknown", "files": "not fetched for this resource"}
    changed = [str(name) for name in seen.get("changed") or ()]
    found = {name: shown(str(record.get(name) or "none")) for name in _asked(fields)}
    return {**found, "files": f"changed: {', '.join(changed[:5])}" if changed else AS_FETCHED}


def _answer(results: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], str]:
    result = results[0] if results else {}
    try:
        answer = json.loads(str(result.get("stdout", "")))
    except ValueError:
        answer = None
    if isinstance(answer, Mapping) and result.get("exit") == 0:
        return answer, ""
    said = str(result.get("stderr", "")).strip().splitlines()
    return {}, said[-1] if said else probe_error(result)


def _digest(results: Sequence[Mapping[str, Any]]) -> str:
    """Of a file its BLAKE3, of a folder that of its tree; the agent knows both without reading what did not change."""
    stat, tree = (results[number] if len(results) > number else {} for number in (1, 2))
    return str((stat.get("digest") if stat.get("type") == "file" else tree.get("root")) or "unknown")


def _hex(checksum: str) -> str:
    return checksum.removeprefix(BLAKE3).lower()


def _chown(fields: Model, path: str) -> Script:
    return join(["chown", "-R", "--", fields.owner or "", place(path)])


@cache
def _text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _program(name: str, request: Mapping[str, Any]) -> tuple[Script, Script]:
    """The commands that run a program on the machine; what it is asked goes through a pipe, since no list of processes shall show it."""
    known = fixed("command -v python3 >/dev/null 2>&1 || { echo 'there is no python3 on this machine' >&2; exit 1; }")
    return known, join(["printf", "%s", json.dumps(request), fixed("|"), "python3", "-I", "-c", _text(name)])
