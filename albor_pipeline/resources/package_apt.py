"""apt: packages of Debian and Ubuntu. Knows no resource.

Every package of a machine is listed by one `dpkg-query`, so that any number of resources costs one look. apt-get is rehearsed
before it changes anything: what it does not know makes it fetch the lists, once; what would remove other packages is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from albor_pipeline.resources.base import Brought, Item, look, sh
from albor_pipeline.resources.package_manager import Installed, Seen, Wish, failure, matches, output
from albor_pipeline.resources.shell import Script, fixed, join

INSTALL_TIMEOUT_S = 3600.0
NO_APT = "there is no apt-get on this machine: `provider: apt` is for Debian and Ubuntu"
NOT_THERE = "nc"
SETTLED = "i"
SOURCED = re.compile(r"^ {8,}-?[0-9]+ (?!/var/lib/dpkg/status)", re.MULTILINE)
LIST = fixed(
    "command -v apt-get >/dev/null 2>&1 || exit 0\n"
    "dpkg-query -W -f='${db:Status-Abbrev} ${Package}:${Architecture} ${Version}\\n'"
)
READY = fixed(
    r"""\
export LC_ALL=C DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l APT_LISTCHANGES_FRONTEND=none
updated=no
news=
say() { printf '%s\n' "$1" >&2; }
fail() { say "$1"; exit 1; }
command -v apt-get >/dev/null 2>&1 || fail 'there is no apt-get on this machine: `provider: apt` is for Debian and Ubuntu'
[ "$(id -u)" = 0 ] || fail 'apt-get needs root: give the resource `sudo: true`'
get() {
  apt-get -q -y -o DPkg::Lock::Timeout=300 -o APT::Cmd::Pattern-Only=true -o Dpkg::Options::=--force-confdef \
    -o Dpkg::Options::=--force-confold "$@"
}
patient() {
  turns=0
  until said=$("$@" 2>&1); do
    case $said in *'ocked by another process'*|*'ould not get lock'*) turns=$((turns + 1)) ;; *) return 1 ;; esac
    [ "$turns" -lt 150 ] || return 1
    sleep 2
  done
}
mend() {
  [ -n "$(dpkg --audit)" ] || [ -n "$(ls /var/lib/dpkg/updates)" ] || return 0
  patient dpkg --configure -a || say "$said"
}
update() {
  [ "$updated" = no ] || return 1
  updated=yes
  patient get update || :
  news=$said
}
rehearse() {
  said=$(get -s "$@" 2>&1) && return 0
  if update && said=$(get -s "$@" 2>&1); then return 0; fi
  fail "$(printf '%s\n' "$news" "$said" | grep '^[EW]: ' || say "$said" 2>&1)"
}
removals() { printf '%s\n' "$said" | sed -n 's/^Remv \([^ ]*\).*/\1/p'; }
there() {
  case $(dpkg-query -W -f='${db:Status-Abbrev}' -- "$1" 2>/dev/null || :) in ''|?n*|?c*) return 1 ;; esac
}
mend"""
)
INSTALL = fixed(
    r"""\
install() {
  rehearse install "$@"
  for name; do
    name=${name%%=*}
    case $name,$said in -*|*"Inst $name "*|*"Inst ${name%%:*} "*) continue ;; esac
    there "$name" || fail "$name is a virtual package: name one that provides it"
  done
  gone=$(removals)
  [ -z "$gone" ] || fail "this would remove $(echo $gone): a package resource with \`state: absent\` before it says that it is meant"
  said=$(get --no-remove install "$@" 2>&1) && return 0
  case $said in *'ailed to fetch'*|*'nable to fetch'*) if update; then get --no-remove install "$@"; return; fi ;; esac
  fail "$said"
}"""
)
REMOVE = fixed(
    r"""\
remove() {
  names=
  for name; do if there "$name"; then names="$names $name"; fi; done
  [ -n "$names" ] || return 0
  rehearse remove $names
  for gone in $(removals); do
    case " $names " in
      *" $gone "*|*" ${gone%%:*} "*) ;;
      *) fail "removing$names would remove $gone too, which needs it: name it among the packages, or keep both" ;;
    esac
  done
  said=$(get remove $names 2>&1) || fail "$said"
}"""
)

# Inst lines of the rehearsal, 'address' name bytes of each archive to fetch, what is known of each, `had NAME KIB` of what it replaces.
WEIGH = fixed(
    r"""\
export LC_ALL=C
ask() { apt-get -q -y -o APT::Cmd::Pattern-Only=true "$@"; }
weigh() {
  told=$(ask -s install "$@" 2>/dev/null) && told=$(printf '%s\n' "$told" | grep '^Inst ') || exit 1
  printf '%s\n' "$told"
  ask -qq --print-uris install "$@" 2>/dev/null | grep "^'[a-z+]*http" || :
  apt-cache show $(printf '%s\n' "$told" | sed 's/^Inst \([^ ]*\) [^(]*(\([^ ]*\) .*/\1=\2/') 2>/dev/null |
    grep -E '^(Package|Version|Installed-Size): |^$' || :
  old=$(printf '%s\n' "$told" | sed -n 's/^Inst \([^ ]*\) \[.*/\1/p')
  [ -z "$old" ] || dpkg-query -W -f='had ${Package} ${Installed-Size}\n' $old 2>/dev/null || :
}"""
)
WEIGH_TIMEOUT_S = 120.0
ARCHIVES, UNPACKED_AT = "/var/cache/apt/archives", "/usr"
FETCHED = re.compile(r"^'\S+' (\S+) ([0-9]+)", re.MULTILINE)
UNPACKED = re.compile(r"^Inst (\S+) (?:\[(\S+)\] )?\((\S+) ", re.MULTILINE)
SHOWN = re.compile(r"^Package: .*(?:\n[A-Z].*)*", re.MULTILINE)
HAD = re.compile(r"^had (\S+) ([0-9]+)$", re.MULTILINE)


class Apt:
    """The packages of a machine; `name=VERSION` pins one of them."""

    pattern = r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.](?::[a-z0-9-]+)?(?:=[A-Za-z0-9*][A-Za-z0-9.+~:*-]*)?"
    must = "the name of a Debian package such as python3-venv, or one with its version, NAME=VERSION"

    def wish(self, text: str, version: str, source: str) -> Wish:
        """`name` or `name=version`."""
        name, _, pinned = text.partition("=")
        return Wish(name, pinned or version)

    def probes(self, names: Sequence[str], latest: bool) -> list[Item]:
        """The list of all packages; what could be had of these, only where the latest is wanted."""
        return [look(LIST), *([_policy(names)] if latest else [])]

    def seen(self, names: Sequence[str], results: Sequence[Mapping[str, Any]]) -> Seen:
        """What dpkg says of them, and what apt-cache offers."""
        text = output(results)
        if text is None:
            return Seen({}, failure(results, "dpkg-query"))
        if not text:
            return Seen({}, NO_APT)
        offers = _offered(output(results, 1) or "")
        found = {name: (*_listed(text)[name], offers.get(name, NO_OFFER)) for name in names if name in _listed(text)}
        return Seen({name: Installed(version, not _settled(state), offer.newest) for name, (state, version, offer) in found.items()})

    def is_newer(self, one: str, two: str) -> bool:
        """By Debian's order."""
        return _order(one) > _order(two)

    def install(self, wishes: Sequence[Wish], latest: bool, again: bool) -> Item:
        """Install these and no others; older versions too where one is declared."""
        fetch = [fixed("update")] if latest or again else []
        return _change(INSTALL, *fetch, join([fixed("install"), *_words(wishes)]))

    def remove(self, names: Sequence[str]) -> Item:
        """Remove them as `apt-get remove` does: changed configuration files stay."""
        return _change(REMOVE, join([fixed("remove"), *names]))

    def forecasts(self, wishes: Sequence[Wish]) -> list[Item]:
        """What apt-cache knows of them."""
        return [_policy([wish.name for wish in wishes])]

    def forecast(self, wishes: Sequence[Wish], results: Sequence[Mapping[str, Any]]) -> list[str]:
        """Packages and versions that no source has; nothing where no list was ever fetched, since converging fetches them."""
        text = output(results)
        if text is None:
            return [NO_APT]
        offers = _offered(text)
        if not any(offer.newest for offer in offers.values()):
            return []
        lacking = [f"no package source has `{wish.name}`" for wish in wishes if wish.name not in offers]
        for wish in wishes:
            known = offers.get(wish.name, NO_OFFER).versions
            if wish.version and known and not any(matches(wish.version, version) for version in known):
                lacking.append(f"no package source has version {wish.version} of `{wish.name}`: there is {', '.join(known[:5])}")
        return lacking

    def weighs(self, wishes: Sequence[Wish]) -> list[Item]:
        """A rehearsal of apt-get: what it would fetch and unpack."""
        return [look(WEIGH, join([fixed("weigh"), *_words(wishes)]), timeout_s=WEIGH_TIMEOUT_S)]

    def brings(self, results: Sequence[Mapping[str, Any]]) -> list[Brought]:
        """Archives, and what they take unpacked."""
        return weighed(output(results))


def weighed(text: str | None) -> list[Brought]:
    """What WEIGH told; something of unknown size where it told nothing, or not of each package how large it is."""
    if not text:
        return [Brought("", None)]
    found = [Brought(ARCHIVES, int(size), name) for name, size in FETCHED.findall(text)]
    had = {name: int(size) for name, size in HAD.findall(text)}
    sizes = {(name, version): int(size) for name, version, size in map(_size, SHOWN.findall(text)) if size}
    for name, before, version in UNPACKED.findall(text):
        size = sizes.get((name.partition(":")[0], version))
        grown = None if size is None else max(0, size - (had.get(name.partition(":")[0], 0) if before else 0))
        found.append(Brought(UNPACKED_AT, None if grown is None else grown << 10, f"{name}={version}"))
    return found


def _size(block: str) -> tuple[str, str, str]:
    """Package, version and installed size in KiB of what apt-cache shows of one."""
    told = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
    return told.get("Package", ""), told.get("Version", ""), told.get("Installed-Size", "")


def _words(wishes: Sequence[Wish]) -> list[str]:
    down = ["--allow-downgrades"] if any(wish.version for wish in wishes) else []
    return [*down, *(f"{wish.name}={wish.version}" if wish.version else wish.name for wish in wishes)]


def _change(*commands: Script) -> Item:
    return sh(READY, *commands, timeout_s=INSTALL_TIMEOUT_S)


def _policy(names: Sequence[str]) -> Item:
    return look(join(["env", "LC_ALL=C", "apt-cache", "-o", "APT::Cmd::Pattern-Only=true", "policy", "--", *names]))


@lru_cache(maxsize=16)
def _listed(text: str) -> Mapping[str, tuple[str, str]]:
    """`package` and `package:architecture` -> (state, version), of all that are there in some way; the machine's own one counts first."""
    rows = [row for row in map(str.split, text.splitlines()) if len(row) == 3 and row[0][1:2] not in NOT_THERE]
    own = next((name.partition(":")[2] for _, name, _ in rows if name.startswith("dpkg:")), "")
    found: dict[str, tuple[str, str]] = {}
    for state, whole, version in rows:
        name, _, architecture = whole.partition(":")
        found[whole] = (state, version)
        if name not in found or architecture in (own, "all"):
            found[name] = (state, version)
    return found


def _settled(state: str) -> bool:
    return state[1] == SETTLED and state[2:] != "R"


@dataclass(frozen=True)
class _Offer:
    """What could be installed of one package: the candidate, empty where no package source has any, and all known versions."""

    newest: str
    versions: tuple[str, ...]


NO_OFFER = _Offer("", ())


def _offered(text: str) -> Mapping[str, _Offer]:
    """By package; what is neither installed nor in any source is left out."""
    found: dict[str, _Offer] = {}
    for block in re.split(r"\n(?=\S)", text):
        name, _, rest = block.partition(":\n")
        candidate = re.search(r"^  Candidate: (\S+)", rest, re.MULTILINE)
        if candidate is not None and candidate[1] != "(none)":
            versions = tuple(re.findall(r"^ (?:\*\*\*|   ) (\S+) -?[0-9]+$", rest, re.MULTILINE))
            found[name] = _Offer(candidate[1] if SOURCED.search(rest) else "", versions)
    return found


def _order(version: str) -> tuple[int, object, object]:
    """What Debian sorts a version by: epoch, upstream version, revision."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    return int(epoch) if epoch.isdigit() else 0, _parts(upstream if dash else rest), _parts(revision if dash else "")


def _parts(text: str) -> list[tuple[tuple[int, ...], int]]:
    """Words and numbers in turn; in a word `~` comes before its end, the end before letters, and letters before other signs."""
    found = []
    for word, digits in re.findall(r"([^0-9]*)([0-9]*)", text):
        signs = tuple(-1 if sign == "~" else ord(sign) if sign.isalpha() else ord(sign) + 256 for sign in word)
        found.append(((*signs, 0), int(digits or 0)))
    return found
