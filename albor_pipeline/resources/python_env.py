"""Python environment: a virtual environment with declared requirements, proven by a lock of what was installed. Runs nothing itself.

The lock (`albor-lock.json` in the environment) holds what was asked for and the versions that came out of it. It is written last, so
an environment whose making was cut off has none, and later changes by hand differ from it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from albor_pipeline.agent.hashing import digest_bytes
from albor_pipeline.errors import ManifestError
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources.base import Convergent, Instance, Item, look, probe_error, sh
from albor_pipeline.resources.fields import CONTENT, DOC, Fields, PathText, Text, wrong
from albor_pipeline.resources.shell import join

INSTALL_TIMEOUT_S = 3600.0
READ_TIMEOUT_S = 10.0
LOCK = "albor-lock.json"
MISSING = "io"
AS_LOCKED = "as locked"
SHOWN_CHARS = 120
WRITE_LOCK = """\
import json, os, sys
from importlib.metadata import distributions
dists = {d.metadata["Name"]: d.version for d in distributions() if d.metadata["Name"]}
lock = {"wanted": json.loads(sys.argv[2]), "dists": dists}
with open(sys.argv[1] + ".new", "w") as file:
    json.dump(lock, file, indent=1, sort_keys=True)
    file.flush()
    os.fsync(file.fileno())
os.rename(sys.argv[1] + ".new", sys.argv[1])
"""


class PythonEnv(Fields):
    """A Python environment with declared requirements; `python` is the interpreter that it is made with."""

    path: Annotated[PathText, CONTENT, Field(description="the folder of the environment")]
    python: Annotated[Text, CONTENT, Field(description="the interpreter that it is made with")] = "python3"
    requirements: Annotated[tuple[Text, ...], CONTENT, Field(description="what is installed, one requirement an item")] = ()
    requirements_file: Annotated[Text | None, CONTENT, Field(description="a requirements file of the project")] = None
    constraints: Annotated[Text | None, CONTENT, Field(description="a constraints file of the project")] = None
    index: Annotated[Text | None, CONTENT, Field(description="the address of the package index")] = None
    wheels: Annotated[
        Text | None, CONTENT,
        Field(description="a folder of the project with wheels, which are sent along and are all that is installed from"),
    ] = None
    description: Annotated[str, DOC, Field(description="a sentence for readers")] = ""

    @model_validator(mode="after")
    def _one_line_each(self) -> PythonEnv:
        if any("\n" in item or item.startswith("-") for item in self.requirements):
            raise wrong("given `requirements` such as numpy>=1.26, one each; options belong in `requirements_file`")
        if self.index is not None and self.wheels is not None:
            raise wrong("given an `index` or `wheels`, not both")
        return self


def interpreter(fields: PythonEnv) -> str:
    """The path of the environment's interpreter, relative to the machine's workdir when the environment's path is."""
    return f"{fields.path.rstrip('/')}/bin/python"


class PythonEnvKind(Convergent):
    """The kind `python_env`: made afresh when what is asked for changes, so nothing that was dropped stays behind."""

    name: ClassVar[str] = "python_env"
    model: ClassVar[type[Fields]] = PythonEnv

    def defaults(self, name: str) -> Mapping[str, Any]:
        """A folder of its own among what the pipeline keeps on the machine."""
        return {"path": f".albor/env/{name.replace('/', '--')}"}

    def probes(self, one: Instance) -> list[Item]:
        """What the interpreter has installed, and the lock."""
        fields: PythonEnv = one.fields
        read = look(join(["cat", "--", f"{fields.path}/{LOCK}"]), timeout_s=READ_TIMEOUT_S)
        return [{"op": "python", "python": interpreter(fields)}, read]

    def observe(self, one: Instance, results: Sequence[Mapping[str, Any]]) -> Observation:
        """What was asked for when it was made, and whether the packages are still those of the lock."""
        first = results[0] if len(results) == 2 else {}
        installed, error = first.get("dists"), first.get("error")
        if isinstance(error, Mapping) and error.get("code") == MISSING:
            return Observation(False)
        if not isinstance(installed, Mapping):
            return Observation(False, error=probe_error(first))
        lock = _lock(str(results[1].get("stdout", "")))
        if lock is None:
            return Observation(True, {"packages": "no lock: its making was cut off"})
        wanted, locked = lock
        return Observation(True, {**wanted, "packages": _compared(locked, installed)})

    def wanted(self, one: Instance) -> Mapping[str, str]:
        """Interpreter, requirements and constraints as asked for, and packages as locked."""
        return {**_asked(one), "packages": AS_LOCKED}

    def converge(self, one: Instance, observed: Observation) -> list[Item]:
        """Make it afresh: venv, pip, and the lock last."""
        fields: PythonEnv = one.fields
        path = fields.path.rstrip("/")
        asked = json.dumps(dict(_asked(one)), sort_keys=True)
        pip = [interpreter(fields), "-I", "-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--quiet"]
        requirements, constraints = f"{path}.requirements.txt", f"{path}.constraints.txt"
        operations: list[Item] = [{"verb": "put", "path": path, "type": "absent"}]
        wants, limits = _requirements(one), _constraints(one)
        commands = [join([fields.python, "-m", "venv", path])]
        if wants:
            operations.append({"verb": "put", "path": requirements, "type": "file", "data": wants})
            pip += ["-r", requirements]
        if limits is not None:
            operations.append({"verb": "put", "path": constraints, "type": "file", "data": limits})
            pip += ["-c", constraints]
        if fields.index is not None:
            pip += ["--index-url", fields.index]
        if fields.wheels is not None:
            pip += ["--no-index", "--find-links", fields.wheels]
        if wants:
            commands.append(join(pip))
        commands.append(join([interpreter(fields), "-I", "-c", WRITE_LOCK, f"{path}/{LOCK}", asked]))
        return [*operations, sh(*commands, timeout_s=INSTALL_TIMEOUT_S)]

    def remove(self, one: Instance) -> list[Item]:
        """The environment and the two files beside it."""
        path = one.fields.path.rstrip("/")
        beside = (path, f"{path}.requirements.txt", f"{path}.constraints.txt")
        return [{"verb": "put", "path": each, "type": "absent"} for each in beside]


def _asked(one: Instance) -> Mapping[str, str]:
    fields: PythonEnv = one.fields
    values = {"path": fields.path, "python": fields.python}
    text = ", ".join(fields.requirements)
    if text:
        values["requirements"] = text if len(text) <= SHOWN_CHARS else digest_bytes(text.encode())
    if fields.requirements_file is not None:
        values["requirements_file"] = digest_bytes(one.read("requirements_file", fields.requirements_file))
    limits = _constraints(one)
    if limits is not None:
        values["constraints"] = digest_bytes(limits)
    if fields.index is not None:
        values["index"] = fields.index
    if fields.wheels is not None:
        values["wheels"] = _wheels(one, fields.wheels)
    return values


def _requirements(one: Instance) -> bytes:
    fields: PythonEnv = one.fields
    listed = "".join(f"{item}\n" for item in fields.requirements).encode()
    if fields.requirements_file is None:
        return listed
    return one.read("requirements_file", fields.requirements_file).rstrip(b"\n") + b"\n" + listed


def _constraints(one: Instance) -> bytes | None:
    fields: PythonEnv = one.fields
    return None if fields.constraints is None else one.read("constraints", fields.constraints)


def _wheels(one: Instance, path: str) -> str:
    """A digest of the names, which hold versions, and sizes of the wheels."""
    found = sorted(f"{wheel.name} {wheel.stat().st_size}" for wheel in (one.root / path).glob("*.whl"))
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


def _name(dist: str) -> str:
    """The name of a distribution in the one spelling of PEP 503."""
    return re.sub(r"[-_.]+", "-", dist).lower()


def _compared(locked: Mapping[str, str], installed: Mapping[str, Any]) -> str:
    mine, theirs = ({_name(key): str(value) for key, value in each.items()} for each in (locked, installed))
    changed = [name for name in sorted({*mine, *theirs}) if mine.get(name) != theirs.get(name)]
    if not changed:
        return AS_LOCKED
    name = changed[0]
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"{name} {mine.get(name, 'absent')} -> {theirs.get(name, 'absent')}{more}"
