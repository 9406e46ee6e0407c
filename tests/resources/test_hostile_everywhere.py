"""Every text field of every type, found in the models: what is hostile arrives as one word, is read as the name of a file, or is refused.

A script with a hostile word must be that of a plain one but for this word: the same words for a shell, in the same order.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from test_cases import resource_of

from albor_pipeline.errors import ManifestError
from albor_pipeline.manifest import later
from albor_pipeline.model.observed import Observation
from albor_pipeline.resources.base import Convergent
from albor_pipeline.resources.fields import DOC, Fields, class_of, declared
from albor_pipeline.resources.registry import KINDS

PLAIN = "plain"
DERIVED = re.compile(r"[0-9a-f]{8,}|\b[0-9]{2,}\b")
# Each has letters that stand in no script, so that it is found in one.
WORDS = (
    "Qz\"b 'c", "Qz's $(touch pwned) \"x", "Qz\"; touch pwned; '", "'; touch pwned; \"Qz", "`touch Qz` '\"", "Qz\ntouch pwned '\"",
    "-rf '\" Qz", "--help=Qz '\"", "a & Qz | c > d '\"", "* '\" Qz", "${HOME} '\" Qz", "\\ '\" Qz \\", "# '\" Qz", "%s Qz %n '\"",
    "grün '\" 日本 Qz", "Qz\tb'\"", "\u2028 '\" Qz", "$(touch${IFS}Qz)", "`Qz`", "Qz;pwned", "$Qz", "Qz'", 'Qz"', "Qz\\", "Qz*", "~Qz",
    "Qz\r\nb", "Qz&pwned", "-rfQz", "Qz\0b", "Qz b", "Qz>pwned",
)  # fmt: skip
BASES: dict[str, dict[str, Any]] = {
    "file": {"path": "conf"},
    "wasm_bundle": {"path": "x.wasm", "source": "m.wasm"},
    "python_env": {"requirements": ["six"]},
    "package": {"provider": "apt", "packages": ["jq"]},
    "service": {"name": "cron"},
    "mount": {"source": "disk", "path": "/mnt/a"},
    "user": {"name": "zoe"},
    "docker": {"name": "box", "image": "busybox"},
    "network": {"port": 80, "name": "web"},
    "cron": {"name": "job", "schedule": "@daily", "command": "true"},
    "model": {"name": "m", "source": "ann/tiny", "path": "m.gguf"},
    "gpu": {"driver_version": ""},
    "github_release": {"repo": "casey/just", "binary": "just"},
}
# Where a word stands in a value that has a form, and what must stand beside that field; None takes a field out.
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "file.target": ("{}", {"state": "symlink"}),
    "python_env.lock": ("{}", {"requirements": None}),
    "package.source": ("{}", {"provider": "cargo"}),
    "mount.path": ("/mnt/{}", {}),
    "user.shell": ("/bin/{}", {}),
    "user.home": ("/home/{}", {}),
    "user.ssh_authorized_keys": ("ssh-rsa AAAA {}", {}),
    "docker.command": ("run {quoted}", {}),
    "python_env.requirements": ("{} @ https://x/y", {}),  # an index is asked only of what is a name and a version
    "docker.environment": ("A={}", {}),
    "docker.volumes": ("{}:/data", {}),
    "model.name": ("{}", {"path": None}),
    "gpu.rocm_version": ("{}", {"gpu_backend": "rocm"}),
    "github_release.repo": ("casey/{}", {}),
    "github_release.install_dir": ("/opt/{}", {}),
}
# Values of a form that no word has; with a word after it, it is refused.
FORMS = {
    "file.mode": "0600", "wasm_bundle.mode": "0600", "docker.ports": "80:80", "docker.restart": "always", "network.from": "10.0.0.0/8",
    "cron.schedule": "@hourly", "model.checksum": "0a" * 32,
}  # fmt: skip
# Files of the project that a field names: what they hold goes to a machine.
READ = {
    "file.source": b"held", "file.template": b"held", "wasm_bundle.source": b"\0asm held", "python_env.requirements_file": b"held",
    "python_env.lock": b"held==1 --hash=sha256:" + b"0a" * 32, "python_env.constraints": b"held", "python_env.wheels": b"held",
}  # fmt: skip
NEVER = ("wasm_bundle.content", "wasm_bundle.template", "wasm_bundle.target")
# Types that no script is made for: a task is what a shell runs, the others become something else or are refused by every plan.
WITHOUT_SCRIPTS = {"task", "recipe", *later.TYPES}


def text_fields(kind: str) -> Iterator[str]:
    """The fields of a type that hold text of any form, or have it inside, and that change something."""
    for name, field in declared(KINDS[kind].model).items():
        if class_of(KINDS[kind].model, name) is not DOC and _holds_text(field.annotation):
            yield name


def _holds_text(annotation: Any) -> bool:
    if annotation is str or (isinstance(annotation, type) and issubclass(annotation, Fields)):
        return True
    return get_origin(annotation) is not Literal and any(map(_holds_text, get_args(annotation)))


PLACES = [f"{kind}.{name}" for kind in KINDS if kind not in WITHOUT_SCRIPTS for name in text_fields(kind)]


def operations(root: Path, where: str, word: str) -> list[Any]:
    """What is wanted of a resource with this word in that field, and all that a machine is told; ManifestError where it is refused."""
    kind, _dot, name = where.partition(".")
    shape, beside = SHAPES.get(where, ("{}", {}))
    value = FORMS[where] + word if where in FORMS else shape.format(word, quoted=shlex.quote(word))
    many = "tuple" in str(declared(KINDS[kind].model)[name].annotation)
    fields = {**BASES[kind], name: [value] if many else value, **beside}
    if where in READ:
        _put(root / value / "held-1-py3-none-any.whl" if name == "wheels" else root / value, READ[where])
    (root / "m.wasm").write_bytes(b"\0asm")
    one = resource_of({"fields": {key: value for key, value in fields.items() if value is not None}}, kind, root)
    how = KINDS[kind]
    assert isinstance(how, Convergent)
    new = Observation(False)
    return [how.wanted(one), *how.probes(one), *how.converge(one, new), *how.again(one, new), *how.remove(one), *how.forecasts(one, new)]


def _put(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except (OSError, ValueError):
        return


def told(value: Any, word: str) -> Any:
    """What a machine is told, with the word replaced by a plain one: a script by the words that a shell reads in it."""
    if isinstance(value, dict):
        return {told(key, word): shell_words(item, word) if key == "script" else told(item, word) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [told(item, word) for item in value]
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    for form in forms(word):
        text = text.replace(form, PLAIN)
    return DERIVED.sub("0", text)


def forms(word: str) -> list[str]:
    """The word as it is, and as it stands in JSON, in a line of a crontab, in one of fstab and in quotes."""
    fstab = "".join(f"\\{ord(letter):03o}" if letter in " \t\n\\" else letter for letter in word)
    as_json = [json.dumps(word, ensure_ascii=ascii)[1:-1] for ascii in (True, False)]
    return sorted({word, *as_json, word.replace("%", "\\%"), fstab, word.strip(), shlex.quote(word)}, key=len, reverse=True)


def shell_words(script: str, word: str) -> list[str]:
    """The words of a script, which a shell must be able to read."""
    subprocess.run(["/bin/sh", "-n"], input=script.encode("utf-8", "surrogateescape"), check=True, capture_output=True)
    return [told(each, word) for each in shlex.split(script)]


@pytest.mark.parametrize("where", PLACES)
def test_a_hostile_word_is_one_word_of_a_script_or_is_refused(tmp_path: Path, where: str) -> None:
    if where in NEVER:
        with pytest.raises(ManifestError):
            operations(tmp_path, where, PLAIN)
        return
    first = operations(tmp_path, where, "" if where in FORMS else PLAIN)
    assert any(each in str(first) for each in ("held", FORMS.get(where, PLAIN))), "give the field a way to a machine, or the test a shape"
    plain = told(first, PLAIN)
    for word in WORDS:
        try:
            found = operations(tmp_path, where, word)
        except ManifestError:
            continue
        assert where not in FORMS, word
        assert told(found, word) == plain, word


def test_every_type_is_among_them() -> None:
    assert set(BASES) | WITHOUT_SCRIPTS == set(KINDS)
    assert set(SHAPES) | set(FORMS) | set(READ) | set(NEVER) <= set(PLACES)
