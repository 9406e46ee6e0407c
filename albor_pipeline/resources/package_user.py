"""uv, pip and cargo: what they install for an account. Knows no resource.

uv: Python programs, each in an environment of its own (`uv tool`). pip: packages of the machine's python3. cargo: programs from crates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from albor_pipeline.resources.base import Item, Lack, look, sh
from albor_pipeline.resources.package_index import against, pinned, question, spelled
from albor_pipeline.resources.package_manager import Installed, Seen, Unweighed, Wish, failure, output
from albor_pipeline.resources.shell import Script, fixed, join

INSTALL_TIMEOUT_S = 3600.0
PYTHON_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?(?:==[A-Za-z0-9*][A-Za-z0-9.+!*-]*)?"
CRATE = r"[A-Za-z][A-Za-z0-9_-]*(?:@[0-9*][A-Za-z0-9.+*-]*)?"
FEATURES = r"(?:\[[A-Za-z0-9_+./-]+(?: *, *[A-Za-z0-9_+./-]+)*\])?"
FUNCTIONS = fixed(
    """\
export PATH="$PATH:$HOME/.local/bin:$HOME/.cargo/bin"
quietly() { "$@" >/dev/null 2>&1 || exit 0; }
need() {
  advice=$1
  shift
  "$@" >/dev/null 2>&1 || { printf '%s\\n' "$advice" >&2; exit 1; }
}
newline='
'
drop() {
  case $newline$listed in *"$newline$1 v"*) ;; *) return 0 ;; esac
  shift
  "$@"
}"""
)
UV = ("command", "-v", "uv")
UV_ADVICE = "uv is not installed here: add a package resource for it, such as `provider: pip` with `packages: [uv]`"
PIP = ("python3", "-m", "pip")
PIP_ADVICE = "python3 has no pip here: add a package resource for it, such as `provider: apt` with `packages: [python3-pip]`"
CARGO = ("command", "-v", "cargo")
CARGO_ADVICE = "cargo is not installed here: add a package resource for it, such as `provider: apt` with `packages: [cargo]`"
LIST_DISTS = """\
import re
from importlib.metadata import distributions
found = {}
for each in distributions():
    if each.metadata["Name"]:
        found.setdefault(re.sub("[-_.]+", "-", each.metadata["Name"]).lower(), each.version)
for name in sorted(found):
    print(name, found[name])
"""
# Debian's own Python refuses pip unless it is told so, which a resource with `provider: pip` does; what apt installed there stays as it is.
PIP_READY = fixed("export PIP_BREAK_SYSTEM_PACKAGES=1\ncd /")
PIP_USER = fixed('if [ "$(id -u)" = 0 ]; then set --; else set -- --user; fi')
# One after the other, until an index cannot be reached; nothing is built. A refusal is told after `? ` and its wish.
ASK_UV = fixed(
    """\
export UV_HTTP_TIMEOUT=5 UV_HTTP_RETRIES=0 UV_PYTHON_DOWNLOADS=never NO_COLOR=1
reached=yes
cd /
ask() {
  [ "$reached" = yes ] || return 0
  said=$(printf '%s\\n' "$1" | uv pip compile --no-deps --no-build --no-header --color never - 2>&1 >/dev/null) && return 0
  [ $? = 1 ] || reached=no
  [ "$reached" = no ] || printf '? %s\\n%s\\n' "$1" "$said"
}"""
)
NOT_FOUND = re.compile(r"Because \S+ was not found in the (?:package registry|provided package locations)")
NO_VERSION = re.compile(r"Because (?:there (?:is|are) no versions? of|only) .* and you require ")
RECORD = fixed('cat -- "${CARGO_INSTALL_ROOT:-${CARGO_HOME:-$HOME/.cargo}}/.crates2.json" 2>/dev/null || exit 0')
CRATE_ID = re.compile(r"(\S+) (\S+) \(([^)]*)\)")


def _change(needs: str, tool: Sequence[str], *commands: Script) -> Item:
    return sh(FUNCTIONS, join([fixed("need"), needs, *tool]), *commands, timeout_s=INSTALL_TIMEOUT_S)


def _lacks(results: Sequence[Mapping[str, Any]], advice: str) -> list[Lack]:
    """The advice where the tool is not there; one that is slow to say something may well be there."""
    return [Lack(advice)] if results and results[0].get("exit") else []


class _Python(Unweighed):
    """What uv and pip share: names, pins and versions of Python distributions."""

    pattern = PYTHON_NAME
    must = "the name of a Python distribution without extras, or one with its version, NAME==VERSION"

    def wish(self, text: str, version: str, source: str) -> Wish:
        """`name` or `name==version`."""
        name, _, pinned = text.partition("==")
        return Wish(name, pinned or version)

    def is_newer(self, one: str, two: str) -> bool:
        """Never: it is said only where a manager needs to be told that it may go back."""
        return False

    def _found(self, names: Sequence[str], rows: Mapping[str, str]) -> Seen:
        return Seen({name: Installed(rows[spelled(name)]) for name in names if spelled(name) in rows})


class Uv(_Python):
    """Python programs of an account, by `uv tool`."""

    def probes(self, names: Sequence[str], latest: bool) -> list[Item]:
        """All tools of the account."""
        return [look(FUNCTIONS, join([fixed("quietly"), *UV]), join(["uv", "tool", "list"]))]

    def seen(self, names: Sequence[str], results: Sequence[Mapping[str, Any]]) -> Seen:
        """Lines `name v1.2`, each with its programs below it."""
        text = output(results)
        if text is None:
            return Seen({}, failure(results, "uv tool list"))
        rows = re.findall(r"^([A-Za-z0-9]\S*) v(\S+)", text, re.MULTILINE)
        return self._found(names, {spelled(name): version for name, version in rows})

    def install(self, wishes: Sequence[Wish], latest: bool, again: bool) -> Item:
        """One after the other; each gets an environment of its own."""
        words = ["uv", "tool", "install", "--quiet", *(["--reinstall"] if again else [])]
        return _change(UV_ADVICE, UV, *(join([*words, pinned(wish)]) for wish in wishes))

    def remove(self, names: Sequence[str]) -> Item:
        """Those that are there."""
        drops = (join([fixed("drop"), name, "uv", "tool", "uninstall", "--quiet", name]) for name in map(spelled, names))
        return _change(UV_ADVICE, UV, fixed("listed=$(uv tool list 2>/dev/null)"), *drops)

    def forecasts(self, wishes: Sequence[Wish]) -> list[Item]:
        """Whether there is uv, and what it says of each."""
        return [look(FUNCTIONS, join([*UV, fixed(">/dev/null")]), ASK_UV, *(join([fixed("ask"), pinned(wish)]) for wish in wishes))]

    def forecast(self, wishes: Sequence[Wish], results: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        """That there is none, else names and versions that no index has."""
        told = dict(block.partition("\n")[::2] for block in f"\n{output(results) or ''}".split("\n? ")[1:])
        return _lacks(results, UV_ADVICE) or [text for wish in wishes for text in _refused(wish, told.get(pinned(wish), ""))]


class Pip(_Python):
    """Packages of the machine's python3: for everybody where it is root's, for the account else."""

    def probes(self, names: Sequence[str], latest: bool) -> list[Item]:
        """All distributions that python3 finds."""
        return [look(FUNCTIONS, join([fixed("quietly"), "command", "-v", "python3"]), fixed("cd /"), join(["python3", "-c", LIST_DISTS]))]

    def seen(self, names: Sequence[str], results: Sequence[Mapping[str, Any]]) -> Seen:
        """Lines `name 1.2`."""
        text = output(results)
        if text is None:
            return Seen({}, failure(results, "python3"))
        rows = [row for row in map(str.split, text.splitlines()) if len(row) == 2]
        return self._found(names, {spelled(name): version for name, version in rows})

    def install(self, wishes: Sequence[Wish], latest: bool, again: bool) -> Item:
        """All at once, so that they fit one another."""
        words = [*PIP, "install", "--no-input", "--disable-pip-version-check", "--quiet", *(["--force-reinstall"] if again else [])]
        command = join([*words, fixed('"$@"'), "--", *map(pinned, wishes)])
        return _change(PIP_ADVICE, (*PIP, "--version"), PIP_READY, PIP_USER, command)

    def remove(self, names: Sequence[str]) -> Item:
        """Those that are there."""
        command = join([*PIP, "uninstall", "--yes", "--quiet", "--no-input", "--disable-pip-version-check", "--", *names])
        return _change(PIP_ADVICE, (*PIP, "--version"), PIP_READY, command)

    def forecasts(self, wishes: Sequence[Wish]) -> list[Item]:
        """Whether there is pip, and what its indexes have."""
        return [look(join([*PIP, "--version", fixed(">/dev/null")]), fixed("cd /"), question(fixed("python3"), wishes))]

    def forecast(self, wishes: Sequence[Wish], results: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        """That there is none, else names and versions that no index has."""
        return _lacks(results, PIP_ADVICE) or against(wishes, output(results))


def _refused(wish: Wish, said: str) -> list[str]:
    """What uv says against a wish; a hint tells of an index that it could not ask, or of another way."""
    words = " ".join(said.split())
    if "hint:" in words:
        return []
    if NOT_FOUND.search(words):
        return [f"no package index has `{wish.name}`"]
    return [f"no package index has version {wish.version} of `{wish.name}`"] if wish.version and NO_VERSION.search(words) else []


class Cargo(Unweighed):
    """Programs that cargo builds for an account; `name[feature,feature]` and `name@version` say which."""

    pattern = rf"{CRATE}{FEATURES}"
    must = "the name of a crate, or one with its version and features, NAME@VERSION[FEATURE,FEATURE]"

    def wish(self, text: str, version: str, source: str) -> Wish:
        """`name`, `name@version`, either with features."""
        crate, _, features = text.partition("[")
        name, _, pinned = crate.partition("@")
        wanted = tuple(sorted(feature.strip() for feature in features.rstrip("]").split(",") if feature.strip()))
        return Wish(name, pinned or version, wanted, source)

    def probes(self, names: Sequence[str], latest: bool) -> list[Item]:
        """What cargo records of its installs; the program itself is not started, and need not be there."""
        return [look(RECORD)]

    def seen(self, names: Sequence[str], results: Sequence[Mapping[str, Any]]) -> Seen:
        """Version, features and origin of each."""
        text = output(results)
        if text is None:
            return Seen({}, failure(results, "cargo's record"))
        try:
            installs = json.loads(text or "{}").get("installs", {})
        except (ValueError, AttributeError):
            return Seen({}, "cargo's record of its installs cannot be read: `cargo install --list` on the machine says more")
        found: dict[str, Installed] = {}
        for crate, how in installs.items() if isinstance(installs, dict) else ():
            named = CRATE_ID.fullmatch(crate)
            if named is not None and named[1] in names:
                features = how.get("features") if isinstance(how, dict) else None
                origin = named[3].partition("file://")[2] if named[3].startswith("path+") else ""
                found[named[1]] = Installed(named[2], features=tuple(map(str, features or ())), origin=origin)
        return Seen(found)

    def is_newer(self, one: str, two: str) -> bool:
        """Never: cargo goes back without being told so."""
        return False

    def install(self, wishes: Sequence[Wish], latest: bool, again: bool) -> Item:
        """One after the other, built on the machine."""
        commands = []
        for wish in wishes:
            words = ["cargo", "install", "--quiet", *(["--force"] if again else [])]
            words += ["--features", ",".join(wish.features)] if wish.features else []
            words += ["--path", wish.source] if wish.source else ["--version", wish.version] if wish.version else []
            commands.append(join(words if wish.source else [*words, "--", wish.name]))
        return _change(CARGO_ADVICE, CARGO, *dict.fromkeys(commands))

    def remove(self, names: Sequence[str]) -> Item:
        """Those that are there."""
        drops = (join([fixed("drop"), name, "cargo", "uninstall", "--quiet", "--", name]) for name in names)
        return _change(CARGO_ADVICE, CARGO, fixed("listed=$(cargo install --list)"), *drops)

    def forecasts(self, wishes: Sequence[Wish]) -> list[Item]:
        """Whether there is cargo."""
        return [look(FUNCTIONS, join(CARGO))]

    def forecast(self, wishes: Sequence[Wish], results: Sequence[Mapping[str, Any]]) -> Sequence[str]:
        """That there is none."""
        return _lacks(results, CARGO_ADVICE)
