"""Python environment: a virtual environment with declared requirements, proven by a lock of what was installed. Runs nothing itself.

The lock (`albor-lock.json` in the environment) holds what was asked for and the versions that came out of it. It is written last, so
an environment whose making was cut off has none, and later changes by hand differ from it. What it says of imports and the GPU was
seen when it was written: they are tried again where packages change and for a deep look, since importing costs seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.errors import ManifestError
from albor_pipeline.model.addresses import shown
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources import python_env_scripts as scripts
from albor_pipeline.resources.base import Brought, Convergent, Instance, Item, Lack, look, probe_error, sh
from albor_pipeline.resources.fields import CONTENT, DOC, Fields, Flag, PathText, Text, wrong
from albor_pipeline.resources.formats import matching
from albor_pipeline.resources.package_index import against, against_files, simple, spelled
from albor_pipeline.resources.package_manager import Wish, output
from albor_pipeline.resources.shell import Script, join

INSTALL_TIMEOUT_S = 3600.0
CHECK_TIMEOUT_S = 300.0
READ_TIMEOUT_S = 10.0
LOCK = "albor-lock.json"
MISSING = "io"
AS_LOCKED = "as locked"
IMPORTS, GPU, GPU_SEEN = "imports", "gpu", "seen"
CHECKED = (IMPORTS, GPU)
SHOWN_CHARS = 120
HASH = b"--hash="
# What a requirements file reads as something else than one requirement.
ODD = re.compile(r"^\s*(?:-|#|$)|[\r\n\\]|\s#|\$\{")
TORCH = re.compile(r"^torch(?![A-Za-z0-9_.-]*[A-Za-z0-9])", re.MULTILINE | re.IGNORECASE)
Address = Annotated[str, matching(r"[^\s\0]{1,2000}", "an address of at most 2,000 characters, without spaces")]
Module = Annotated[str, matching(r"(?=.{1,250}$)[^\W\d]\w*(?:\.[^\W\d]\w*)*", "the name of a module such as torch or torch.nn")]


class PythonEnv(Fields):
    """A Python environment with declared requirements; `python` is a version or an interpreter."""

    path: Annotated[PathText, CONTENT, Field(description="the folder of the environment")]
    python: Annotated[
        Text, CONTENT, Field(description="the version of Python such as 3.11, or the interpreter that it is made with")
    ] = "python3"
    requirements: Annotated[tuple[Text, ...], CONTENT, Field(description="what is installed, one requirement an item")] = ()
    requirements_file: Annotated[Text | None, CONTENT, Field(description="a requirements file of the project")] = None
    lock: Annotated[
        Text | None, CONTENT, Field(description="a requirements file of the project that has every package with its hashes")
    ] = None
    constraints: Annotated[Text | None, CONTENT, Field(description="a constraints file of the project")] = None
    index: Annotated[Address | None, CONTENT, Field(description="the address of the package index")] = None
    extra_index_url: Annotated[Address | None, CONTENT, Field(description="the address of a second package index")] = None
    wheels: Annotated[
        Text | None, CONTENT,
        Field(description="a folder of the project with wheels, which are sent along and are all that is installed from"),
    ] = None
    imports: Annotated[tuple[Module, ...], CONTENT, Field(description="modules that must be importable in it")] = ()
    gpu: Annotated[
        Flag | None, CONTENT,
        Field(description="whether its torch must see a GPU; when left out, where a task that uses it needs one"),
    ] = None
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""

    @model_validator(mode="after")
    def _fitting(self) -> PythonEnv:
        if self.path.startswith("~"):
            raise wrong("given a `path` without `~`, which its tasks could not follow: an absolute one, or one in the machine's workdir")
        if any(ODD.search(item) for item in self.requirements):
            raise wrong("given `requirements` such as numpy>=1.26, one each; options belong in `requirements_file`")
        if self.wheels is not None and (self.index is not None or self.extra_index_url is not None):
            raise wrong("given an `index` or `wheels`, not both")
        if self.lock is not None and (self.requirements or self.requirements_file is not None or self.constraints is not None):
            raise wrong("given a `lock`, which has everything, or requirements and constraints")
        return self


def interpreter(fields: PythonEnv) -> str:
    """The path of the environment's interpreter, relative to the machine's workdir when the environment's path is."""
    return f"{fields.path.rstrip('/')}/bin/python"


def contents(one: Instance) -> Mapping[str, str]:
    """What a task that runs in the environment depends on: all that is asked for but the checks, which change nothing in it."""
    return {**_asked(one), "packages": AS_LOCKED}


class PythonEnvKind(Convergent):
    """The kind `python_env`: made afresh when what is asked for changes, so nothing that was dropped stays behind."""

    name: ClassVar[str] = "python_env"
    model: ClassVar[type[Fields]] = PythonEnv
    names: ClassVar[Mapping[str, str]] = {"index_url": "index"}

    def defaults(self, name: str) -> Mapping[str, Any]:
        """A folder of its own among what the pipeline keeps on the machine."""
        return {"path": f".albor/env/{name.replace('/', '--')}"}

    def probes(self, one: Instance) -> list[Item]:
        """What the interpreter has installed, and the lock; the imports and the GPU only for a deep look."""
        fields: PythonEnv = one.fields
        read = look(join(["cat", "--", f"{_folder(fields)}/{LOCK}"]), timeout_s=READ_TIMEOUT_S)
        deep = one.deep and _checks(one)
        tried = [look(scripts.check(interpreter(fields), fields.imports, _needs_gpu(one)), timeout_s=CHECK_TIMEOUT_S)] if deep else []
        return [{"op": "python", "python": interpreter(fields)}, read, *tried]

    def observe(self, one: Instance, results: Sequence[Mapping[str, Any]]) -> Observation:
        """What was asked for when it was made, and whether the packages are still those of the lock."""
        first = results[0] if len(results) in (2, 3) else {}
        installed, error = first.get("dists"), first.get("error")
        if isinstance(error, Mapping) and error.get("code") == MISSING:
            return Observation(False)
        if not isinstance(installed, Mapping):
            return Observation(False, error=probe_error(first))
        lock = _lock(str(results[1].get("stdout", "")))
        if lock is None:
            return Observation(True, {"packages": "no lock: its making was cut off"})
        wanted, locked = lock
        values = {**wanted, "packages": _compared(locked, installed)}
        version = scripts.version_of(one.fields.python)
        if version:
            found = str(first.get("python", ""))
            values["python"] = version if f"{found}.".startswith(f"{version}.") else found
        return Observation(True, _tried(values, results[2]) if len(results) == 3 else values)

    def wanted(self, one: Instance) -> Mapping[str, str]:
        """Interpreter, requirements and constraints as asked for, packages as locked, and what is checked."""
        return {**contents(one), **_checks(one)}

    def converge(self, one: Instance, observed: Observation) -> list[Item]:
        """Make it afresh: venv, pip, and the lock last; where only checks differ, make those."""
        fields: PythonEnv = one.fields
        made = _making(one) if self._is_made(one, observed) else []
        checks = _checks(one)
        if not checks:
            return made
        check = scripts.check(interpreter(fields), fields.imports, _needs_gpu(one))
        return [*made, sh(check, _note(one, {**_asked(one), **checks}), timeout_s=CHECK_TIMEOUT_S)]

    def remove(self, one: Instance) -> list[Item]:
        """The environment and the two files beside it; a folder that is no environment is refused."""
        path = _folder(one.fields)
        beside = (path, f"{path}.requirements.txt", f"{path}.constraints.txt")
        return [sh(*scripts.ours(path, LOCK)), *({"verb": "put", "path": each, "type": "absent"} for each in beside)]

    def forecasts(self, one: Instance, observed: Observation) -> list[Item]:
        """Whether there is such a Python, and one that can make environments; what its indexes have of simple requirements."""
        fields: PythonEnv = one.fields
        wishes = self._wishes(one, observed) if fields.wheels is None else []
        asked = scripts.ask(fields.python, interpreter(fields), fields.index, fields.extra_index_url, wishes) if wishes else ()
        return [look(*scripts.find(fields.python), *asked)]

    def forecast(self, one: Instance, observed: Observation, results: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        """That there is none, else names and versions that no index, or no file of the folder of wheels, has."""
        folder, wishes = one.fields.wheels, self._wishes(one, observed)
        if results and results[0].get("exit"):
            return [Lack(line) for line in str(results[0].get("stderr", "")).strip().splitlines()[-1:]]
        if folder is not None:
            return against_files(wishes, folder, [path.name for path in (one.root / folder).iterdir()])
        return against(wishes, output(results))

    def _wishes(self, one: Instance, observed: Observation) -> list[Wish]:
        """What can be asked of an index, where something is to be installed."""
        return simple(_requirements(one).decode("utf-8", "replace")) if self._is_made(one, observed) else []

    def brings(self, one: Instance, observed: Observation, results: Sequence[Mapping[str, Any]]) -> list[Brought]:
        """What pip installs, which it tells the size of to nobody; nothing where only checks are made."""
        return [Brought("", None)] if self._is_made(one, observed) else []

    def _is_made(self, one: Instance, observed: Observation) -> bool:
        off = {name for name, value in self.wanted(one).items() if observed.values.get(name) != value}
        return not observed.exists or not off <= set(CHECKED)


def _folder(fields: PythonEnv) -> str:
    return fields.path.rstrip("/") or "/"


def _making(one: Instance) -> list[Item]:
    fields: PythonEnv = one.fields
    path = _folder(fields)
    requirements, constraints = f"{path}.requirements.txt", f"{path}.constraints.txt"
    operations: list[Item] = [sh(*scripts.ours(path, LOCK)), {"verb": "put", "path": path, "type": "absent"}]
    commands = [*scripts.make(fields.python, path), *scripts.indexes(fields.index, fields.extra_index_url)]
    wants, limits = _requirements(one), _constraints(one)
    pip = [interpreter(fields), "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--quiet"]
    if wants:
        operations.append({"verb": "put", "path": requirements, "type": "file", "data": wants, "mode": "0600"})
        pip += [*(["--require-hashes"] if fields.lock is not None else []), "-r", requirements]
    if limits is not None:
        operations.append({"verb": "put", "path": constraints, "type": "file", "data": limits, "mode": "0600"})
        pip += ["-c", constraints]
    if fields.wheels is not None:
        pip += ["--no-index", "--find-links", fields.wheels]
    if wants:
        commands.append(join(pip))
    return [*operations, sh(*commands, _note(one, _asked(one)), timeout_s=INSTALL_TIMEOUT_S)]


def _note(one: Instance, asked: Mapping[str, str]) -> Script:
    return scripts.note(interpreter(one.fields), f"{_folder(one.fields)}/{LOCK}", json.dumps(dict(asked), sort_keys=True))


def _asked(one: Instance) -> Mapping[str, str]:
    fields: PythonEnv = one.fields
    values = {"path": fields.path, "python": scripts.version_of(fields.python) or fields.python}
    text = shown(", ".join(fields.requirements))
    if text:
        values["requirements"] = text if len(text) <= SHOWN_CHARS else digest_bytes(text.encode())
    if fields.requirements_file is not None:
        values["requirements_file"] = _digest(one.read("requirements_file", fields.requirements_file))
    if fields.lock is not None:
        values["lock"] = _digest(_locked(one, fields.lock))
    limits = _constraints(one)
    if limits is not None:
        values["constraints"] = _digest(limits)
    for name in ("index", "extra_index_url"):
        if getattr(fields, name) is not None:
            values[name] = shown(getattr(fields, name))
    if fields.wheels is not None:
        values["wheels"] = _wheels(one, fields.wheels)
    return values


def _digest(data: bytes) -> str:
    """The digest of a file as it may be shown: a password in it could be guessed from a digest of the whole."""
    return digest_bytes(shown(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape"))


def _checks(one: Instance) -> Mapping[str, str]:
    fields: PythonEnv = one.fields
    imports = {IMPORTS: ", ".join(fields.imports)} if fields.imports else {}
    return {**imports, GPU: GPU_SEEN} if _needs_gpu(one) else imports


def _needs_gpu(one: Instance) -> bool:
    """Whether torch must see a GPU: as declared, else where a task needs one and torch is among what is asked for."""
    fields: PythonEnv = one.fields
    if fields.gpu is not None or not one.gpu_needed:
        return bool(fields.gpu)
    return "torch" in fields.imports or TORCH.search(_requirements(one).decode("utf-8", "replace")) is not None


def _requirements(one: Instance) -> bytes:
    fields: PythonEnv = one.fields
    if fields.lock is not None:
        return _locked(one, fields.lock)
    listed = "".join(f"{item}\n" for item in fields.requirements).encode()
    if fields.requirements_file is None:
        return listed
    return one.read("requirements_file", fields.requirements_file).rstrip(b"\n") + b"\n" + listed


def _locked(one: Instance, path: str) -> bytes:
    data = one.read("lock", path)
    if HASH not in data:
        message = f"`{one.resource.id}` is locked by `{path}`, which has no hashes"
        note = "a lock is a requirements file with hashes, as `pip-compile --generate-hashes` and `uv export` write it"
        raise ManifestError.of("no-hashes", message, note, span=one.place("lock"))
    return data


def _constraints(one: Instance) -> bytes | None:
    fields: PythonEnv = one.fields
    return None if fields.constraints is None else one.read("constraints", fields.constraints)


def _wheels(one: Instance, path: str) -> str:
    """A digest of the names, which hold versions, and sizes of the wheels."""
    wheels = list((one.root / path).glob("*.whl"))
    one.looked_for.update((f"{path}/", *(f"{path}/{wheel.name}" for wheel in wheels)))
    found = sorted(f"{wheel.name} {wheel.stat().st_size}" for wheel in wheels)
    if not found:
        raise ManifestError.of("no-wheels", f"`{one.resource.id}` installs from `{path}`, which holds no wheel", span=one.place("wheels"))
    return digest_bytes("\n".join(found).encode())


def _lock(text: str) -> tuple[dict[str, str], dict[str, str]] | None:
    try:
        lock = json.loads(text)
        wanted, dists = lock["wanted"], lock["dists"]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(wanted, dict) or not isinstance(dists, dict):
        return None
    return {str(key): str(value) for key, value in wanted.items()}, {
        str(key): str(value) for key, value in dists.items()
    }


def _tried(values: Mapping[str, str], result: Mapping[str, Any]) -> Mapping[str, str]:
    """The values with what a deep look found of the imports and the GPU instead of what the lock says."""
    name = {0: "", scripts.NO_GPU: GPU}.get(result.get("exit"), IMPORTS)  # type: ignore[arg-type]
    said = str(result.get("stderr", "")).strip().splitlines()
    return {**values, name: said[-1] if said else "no answer"} if name else values


def _compared(locked: Mapping[str, str], installed: Mapping[str, Any]) -> str:
    mine, theirs = ({spelled(key): str(value) for key, value in each.items()} for each in (locked, installed))
    changed = [name for name in sorted({*mine, *theirs}) if mine.get(name) != theirs.get(name)]
    if not changed:
        return AS_LOCKED
    name = changed[0]
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"{name} {mine.get(name, 'absent')} -> {theirs.get(name, 'absent')}{more}"
