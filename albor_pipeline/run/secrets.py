"""Secrets: their values, held in memory for one command. Nothing here is written; what is shown or recorded holds `secret NAME`.

A value is put in at the last moment, in the request that goes to a machine through a pipe: the environment of a task, the
content of a file. In text that comes back it is masked.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

from albor_pipeline.errors import AlborError, Diagnostic, ManifestError
from albor_pipeline.model import addresses
from albor_pipeline.model.manifest import AGE, SECRET, Manifest
from albor_pipeline.model.resource import Resource

FOLDER = "/run/secrets"
PREFIX = "FORJAR_SECRET_"
AGE_KEY = "FORJAR_AGE_KEY"
LIMIT_S = 60.0
MASKED = "***"
MIN_MASKED = 4
SECRET_TEXTS = ("content", "token")


class Masker:
    """A text that comes in pieces, with secrets replaced, also those cut in two; what may be the beginning of one is held back."""

    def __init__(self, values: Iterable[str]) -> None:
        self._values = sorted({value for value in values if len(value) >= MIN_MASKED}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._values)) or r"(?!)")
        self._held = ""

    def feed(self, text: str) -> str:
        """What can be shown by now."""
        text = self._held + text
        limit = self._beginning(text)
        shown, at = [], 0
        for found in self._pattern.finditer(text):
            if found.start() >= limit:
                break
            shown += [text[at : found.start()], MASKED]
            at = found.end()
        limit = max(at, limit)
        self._held = text[limit:]
        return "".join([*shown, text[at:limit]])

    def end(self) -> str:
        """The rest; the beginning of a secret that was never finished is replaced too."""
        rest, self._held = self._held, ""
        return MASKED if len(rest) >= MIN_MASKED else rest

    def _beginning(self, text: str) -> int:
        """Where the first unfinished secret begins at the end of the text; its length when there is none."""
        longest = len(self._values[0]) - 1 if self._values else 0
        for at in range(max(0, len(text) - longest), len(text)):
            if any(len(value) > len(text) - at and value.startswith(text[at:]) for value in self._values):
                return at
        return len(text)


class Vault:
    """The secrets of one manifest; each is fetched once, when it is first needed."""

    def __init__(self, manifest: Manifest, environ: Mapping[str, str] | None = None) -> None:
        self._manifest = manifest
        self._source = manifest.secrets
        self._environ = os.environ if environ is None else environ
        self._values: dict[str, str] = {}

    def check(self) -> None:
        """Fetch every secret that the manifest names; raises ManifestError with all that are not there, at their places."""
        if problems := self.missing():
            raise ManifestError(problems)

    def missing(self) -> tuple[Diagnostic, ...]:
        """Fetch every secret that the manifest names; what is said of those that are not there."""
        problems: list[Diagnostic] = []
        for name, span in self._source.names.items():
            try:
                self._value(name)
            except AlborError as error:
                item = error.diagnostics[0]
                problems.append(replace(item, message=f"the secret `{name}` is not there: {item.message}", span=span))
        for resource in self._manifest.resources.values():
            try:
                for text in _texts(resource):
                    self._opened(text)
            except AlborError as error:
                problems.append(replace(error.diagnostics[0], span=resource.span))
        return tuple(problems)

    def reveal(self, text: str) -> str:
        """The text with its secrets put in."""
        return self._opened(SECRET.sub(lambda match: self._value(match[1]), text) if "\u27e6" in text else text)

    def environment(self, env: Mapping[str, str]) -> dict[str, str]:
        """An environment with its secrets put in."""
        return {name: self.reveal(text) for name, text in env.items()}

    def inside(self, env: Mapping[str, str]) -> list[str]:
        """The secrets that an environment holds, the longest first."""
        held = {value for value in self._values.values() if len(value) >= MIN_MASKED and any(value in text for text in env.values())}
        return sorted(held, key=len, reverse=True)

    def resource(self, resource: Resource) -> Resource:
        """The resource with the secrets of its `content` or `token` put in; itself when it has none."""
        copies = {machine: self._fields(resource.fields_on(machine)) for machine in resource.machines}
        if all(fields is resource.fields_on(machine) for machine, fields in copies.items()):
            return resource
        return replace(resource, fields=copies[resource.machines[0]], fields_by_machine=copies)

    def mask(self, text: str) -> str:
        """The text with every secret that is known by now replaced, and the password of every address."""
        masker = self.masker()
        return addresses.shown(masker.feed(text) + masker.end())

    def masker(self) -> Masker:
        """What masks every secret that is known by now in a text that comes in pieces."""
        return Masker((*self._values.values(), *self._passwords))

    @cached_property
    def _passwords(self) -> frozenset[str]:
        """Those in the addresses that the manifest names in clear text."""
        resources = self._manifest.resources.values()
        fields = [resource.fields_on(machine) for resource in resources for machine in resource.machines]
        texts = [*(each.model_dump() for each in fields if each is not None), *(dict(resource.hooks) for resource in resources)]
        return frozenset(addresses.passwords(texts))

    def _fields(self, fields: Any) -> Any:
        held = {name: text for name in SECRET_TEXTS if isinstance(text := getattr(fields, name, None), str)}
        shown = {name: self.reveal(text) for name, text in held.items() if "\u27e6" in text or "ENC[age," in text}
        return fields if all(held[name] == text for name, text in shown.items()) else fields.model_copy(update=shown)

    def _value(self, name: str) -> str:
        if name not in self._values:
            fetch = {"env": self._env, "file": self._file, "sops": self._sops, "op": self._op}[self._source.provider]
            self._values[name] = fetch(name)
        return self._values[name]

    def _env(self, name: str) -> str:
        variable = PREFIX + name.upper().replace("-", "_").replace(".", "_")
        if variable not in self._environ:
            raise AlborError.of("no-secret", f"the environment has no `{variable}`", f"export {variable}, or declare another provider")
        return self._environ[variable]

    def _file(self, name: str) -> str:
        path = Path(self._manifest.root) / (self._source.path or FOLDER) / name
        if ".." in Path(name).parts:
            raise AlborError.of("no-secret", "its name leads out of the folder")
        try:
            return path.read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError, ValueError) as error:
            why = (error.strerror or "cannot be read").lower() if isinstance(error, OSError) else "is no text"
            raise AlborError.of("no-secret", f"{self._source.path or FOLDER}/{name}: {why}") from None

    def _sops(self, name: str) -> str:
        return self._asked("sops", ["--decrypt", "--extract", f"[{json.dumps(name)}]", str(self._source.file)])

    def _op(self, name: str) -> str:
        return self._asked("op", ["read", "--no-newline", f"{(self._source.path or 'op:/').rstrip('/')}/{name}"])

    def _asked(self, program: str, arguments: list[str]) -> str:
        """What a program of the provider says; its own words are shown when it fails, its output never."""
        found = shutil.which(program, path=self._environ.get("PATH"))
        if found is None:
            raise AlborError.of("no-secret", f"the program `{program}` is not installed", "install it, or use another provider")
        try:
            done = subprocess.run(
                [found, *arguments], cwd=self._manifest.root, env=dict(self._environ), stdin=subprocess.DEVNULL,
                capture_output=True, timeout=LIMIT_S, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise AlborError.of("no-secret", f"`{program}` took more than {LIMIT_S:.0f} s") from None
        if done.returncode != 0:
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise AlborError.of("no-secret", f"`{program}` ended with exit {done.returncode}" + (f": {lines[-1]}" if lines else ""))
        return done.stdout.decode("utf-8", "replace").removesuffix("\n")

    def _opened(self, text: str) -> str:
        """The text with every `ENC[age,...]` marker decrypted."""
        if "ENC[age," not in text:
            return text
        return AGE.sub(lambda match: self._decrypted(match[1]), text)

    def _decrypted(self, marker: str) -> str:
        if marker not in self._values:
            self._values[marker] = _age(marker, self._environ)
        return self._values[marker]


def _age(marker: str, environ: Mapping[str, str]) -> str:
    try:
        pyrage: Any = import_module("pyrage")
    except ImportError:
        note = "install the package `pyrage`, or take the value from a secret"
        raise AlborError.of("no-secret", "an `ENC[age,...]` value needs the package `pyrage`, which is not installed", note) from None
    import base64

    if AGE_KEY not in environ:
        raise AlborError.of("no-secret", f"an `ENC[age,...]` value needs the key in `{AGE_KEY}`", f"export {AGE_KEY}=AGE-SECRET-KEY-...")
    try:
        identity = pyrage.x25519.Identity.from_str(environ[AGE_KEY].strip())
        return str(pyrage.decrypt(base64.b64decode(marker), [identity]).decode())
    except Exception as error:
        raise AlborError.of("no-secret", f"an `ENC[age,...]` value cannot be decrypted: {type(error).__name__}") from None


def _texts(resource: Resource) -> list[str]:
    texts: list[str] = []
    for machine in resource.machines:
        fields = resource.fields_on(machine)
        env = getattr(fields, "env", None)
        texts += [text for name in SECRET_TEXTS if isinstance(text := getattr(fields, name, None), str)]
        texts += list(env.values()) if isinstance(env, Mapping) else []
    return texts
