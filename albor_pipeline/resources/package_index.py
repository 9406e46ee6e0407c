"""Package index: what the indexes of Python packages have, asked of pip on the machine. Installs nothing, and knows no kind.

`pip index versions` reads an index and downloads no package. That something is lacking is said only where every index answered: one that
cannot be reached, or that wants a password, proves nothing. Addresses may hold passwords: none of what pip writes leaves the machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from albor_pipeline.resources.package_manager import Wish, matches
from albor_pipeline.resources.shell import Script, fixed, join

SHOWN_VERSIONS = 5
NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
# Its arguments are NAME or NAME==VERSION; it tells in JSON of each whether all indexes answered, have its page, and which versions fit.
ASK = """\
import glob, json, os, re, subprocess, sys, time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote, urlsplit
END = time.monotonic() + 30
LINK = re.compile("Found link |Skipping link: ")
PYTHON = [sys.executable] + (["-I"] if sys.flags.isolated else [])
QUICK = ["-vv", "--no-input", "--no-color", "--disable-pip-version-check", "--retries", "0", "--timeout", "5"]
def run(words):
    try:
        return subprocess.run(words, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              universal_newlines=True, errors="replace", timeout=max(0.1, END - time.monotonic()))
    except (OSError, subprocess.TimeoutExpired):
        return None
def pips():
    yield PYTHON + ["-m", "pip"]
    import ensurepip
    folders = [getattr(ensurepip, "_WHEEL_PKG_DIR", None), os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")]
    for wheel in (each for folder in folders if folder for each in glob.glob(os.path.join(str(folder), "pip-*.whl"))):
        yield PYTHON + [os.path.join(wheel, "pip")]
def lacks(place, name):
    folder, last = os.path.split(unquote(urlsplit(place).path).rstrip("/"))
    return last == re.sub("[-_.]+", "-", name).lower() and os.path.isdir(folder)
def answered(place, lines):
    starts = ("Fetched page " + place, "Could not fetch URL " + place + ": 404 ")
    return any(line.startswith(starts) or LINK.match(line) and "(from " + place in line for line in lines)
def ask(text):
    name, _, version = text.partition("==")
    ran = run(pip + QUICK + ["index", "versions", "--pre", name]) if time.monotonic() < END else None
    lines = [] if ran is None else [line.strip() for line in ran.stdout.splitlines()]
    at = [n for n, line in enumerate(lines) if re.match("[0-9]+ location.s. to search for versions of ", line)]
    listed = [line.partition(":")[2] for line in lines if line.startswith("Available versions:")]
    if not at or not listed and not any("No matching distribution found" in line for line in lines):
        return None
    places = [line[2:] for line in lines[at[0] + 1:at[0] + 1 + int(lines[at[0]].split()[0])]]
    ignored = [found[1] for found in (re.search("Location '(.*)' is ignored", line) for line in lines) if found]
    whole = all(answered(place, lines) for place in places) and all(lacks(place, name) for place in ignored)
    versions = [each.strip() for each in ",".join(listed).split(",") if each.strip()]
    named = bool(listed) or any(line.startswith("Fetched page ") for line in lines)
    return {"whole": whole, "named": named, "versions": versions if version else versions[:1]}
pip = next((words for words in pips() for ran in [run(words + ["--version"])] if ran and ran.returncode == 0), None)
if pip:
    with ThreadPoolExecutor(4) as pool:
        print(json.dumps(dict(zip(sys.argv[1:], pool.map(ask, sys.argv[1:])))))
"""
# Lines of a requirements file that say where else pip looks.
ELSEWHERE = re.compile(r"-(?:[if]|-(?:in|f|no-i|ex))")
REQUIREMENT = re.compile(rf"({NAME})\s*(?:\[[^]]*\])?\s*(?:==\s*([A-Za-z0-9.+!*_-]+)|\(?\s*[<>=!~][^;@$]*)?")
ARCHIVE = re.compile(r".*\.(?:whl|zip|tgz|tar\.\w+)", re.IGNORECASE)
SOURCES = re.compile(r"(.+)-([^-]+)\.(?:zip|tgz|tar\.\w+)")
NUMBERS = re.compile(r"[0-9]+(?:\.[0-9]+)*(?:\.\*)?")


def spelled(name: str) -> str:
    """The name of a Python distribution in the one spelling of PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned(wish: Wish) -> str:
    """A wish as pip and uv read it."""
    return f"{wish.name}=={wish.version}" if wish.version else wish.name


def question(python: Script, wishes: Sequence[Wish]) -> Script:
    """The command that asks, by the pip of this Python, else the one that it brings along; never fails, and without any says nothing."""
    return join([python, "-c", ASK, *map(pinned, wishes), fixed("2>/dev/null || :")])


def against(wishes: Sequence[Wish], answer: str | None) -> list[str]:
    """What the answer to `question` says against the wishes."""
    try:
        told = json.loads(answer or "{}")
    except ValueError:
        return []
    said = []
    for wish in wishes:
        one = told.get(pinned(wish)) if isinstance(told, Mapping) else None
        if isinstance(one, Mapping) and one.get("whole"):
            versions: Any = one.get("versions")
            fitting = " for this Python" if one.get("named") else ""
            said += _lacking("no package index has", wish, list(map(str, versions)) if isinstance(versions, list) else [], fitting)
    return said


def against_files(wishes: Sequence[Wish], folder: str, names: Iterable[str]) -> list[str]:
    """What speaks against wishes that are installed from the files of a folder alone; whether a wheel fits its Python is not told."""
    versions: dict[str, list[str]] = {}
    for name in sorted(names):
        found = SOURCES.fullmatch(name)
        parts = [found[1], found[2]] if found is not None else name.split("-") if name.endswith(".whl") else []
        if len(parts) > 1:
            versions.setdefault(spelled(parts[0]), []).append(parts[1])
    return [text for wish in wishes for text in _lacking(f"no file in `{folder}` is", wish, versions.get(spelled(wish.name), []))]


def simple(text: str) -> list[Wish]:
    """The requirements of a file that an index can be asked of: by name, and by version where just one is given.

    None of those with environment markers, of addresses and files; none at all where the file has pip look elsewhere.
    """
    found = []
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        line = re.sub(r"(?:^|\s)(?:#|--(?=hash|config|global)).*", "", line).strip()
        if ELSEWHERE.match(line):
            return []
        one = REQUIREMENT.fullmatch(line)
        if one is not None and not ARCHIVE.fullmatch(one[1]):
            found.append(Wish(one[1], one[2] or ""))
    return list(dict.fromkeys(found))


def _lacking(where: str, wish: Wish, versions: Sequence[str], fitting: str = "") -> list[str]:
    if not versions:
        return [f"{where} `{wish.name}`{fitting}"]
    if not wish.version or any(_is(wish.version, version) for version in versions):
        return []
    newest = list(dict.fromkeys(versions))[:SHOWN_VERSIONS]
    return [f"{where} version {wish.version} of `{wish.name}`{fitting}: there is {', '.join(newest)}"]


def _is(wanted: str, version: str) -> bool:
    """Whether a version may be the wanted one, as pip compares: one with more than numbers has several spellings, so it may always be."""
    if not NUMBERS.fullmatch(wanted):
        return True
    wanted, plain = (re.sub(r"(?<![0-9])0+(?=[0-9])", "", text.partition("+")[0]) for text in (wanted, version))
    return matches(wanted, plain) or matches(wanted, f"{plain}.0.0")
