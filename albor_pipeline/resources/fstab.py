"""The tables of mounts: what fstab says, and what the kernel has mounted. Pure; knows no resource."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

SPECIAL = {" ": "\\040", "\t": "\\011", "\n": "\\012", "\\": "\\134", "#": "\\043"}
OCTAL = re.compile(r"\\([0-3][0-7]{2})")
FIELDS = 4
OTHER_FILE = "another file at "
# What the kernel shows by the name that fstab has for it.
VISIBLE = ("ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "sync", "dirsync")


def escaped(text: str) -> str:
    """A field as fstab has it; `#` only where it would begin a comment."""
    plain = "".join(SPECIAL[letter] if letter != "#" and letter in SPECIAL else letter for letter in text)
    return SPECIAL["#"] + plain[1:] if plain.startswith("#") else plain


def unescaped(text: str) -> str:
    """A field of fstab or of the kernel's list as it is meant."""
    return OCTAL.sub(lambda found: chr(int(found[1], 8)), text)


def normal(path: str) -> str:
    """A path without `.`, `..`, doubled slashes and one at its end."""
    return "/" + posixpath.normpath(path).lstrip("/")


def words_of(line: str) -> tuple[str, ...]:
    """The fields of a line, between spaces and tabs only: a path may hold any other kind of space."""
    return tuple(word for word in re.split("[ \t]", line) if word)


@dataclass(frozen=True)
class Live:
    """A mount as the kernel shows it."""

    device: str
    root: str
    path: str
    source: str
    flags: frozenset[str]


@dataclass(frozen=True)
class Table:
    """Both tables as far as one path is concerned; `facts` is what its source leads to on the machine."""

    path: str
    lines: tuple[tuple[str, ...], ...]
    text: tuple[str, ...]
    live: Live | None
    facts: dict[str, str]

    def live_state(self, source: str) -> str:
        """`mounted` when it is from this source, else from which it is, or `unmounted`."""
        if self.live is None:
            return "unmounted"
        if self._is_from(self.live, source):
            return "mounted"
        if "file" in self.facts and self.live.source.startswith("/dev/loop"):
            return f"mounted from {OTHER_FILE}{self.live.source}"
        inside = "" if self.live.root == "/" else f"[{self.live.root}]"
        return f"mounted from {self.live.source}{inside}"

    def _is_from(self, live: Live, source: str) -> bool:
        names = {source.rstrip("/"), self.facts.get("source", source).rstrip("/")} - {""}
        if live.source.rstrip("/") in names or "same" in self.facts:
            return True
        if "file" in self.facts:
            return f"loop:{live.source}" in self.facts
        major, _colon, minor = self.facts.get("device", "").partition(":")
        return bool(minor) and live.root == "/" and live.device == f"{int(major, 16)}:{int(minor, 16)}"

    def lost_flags(self, options: str) -> list[str]:
        """Of these options those that the kernel would show of the mount and does not."""
        if self.live is None:
            return []
        asked = [word for word in options.split(",") if word in VISIBLE and word not in self.live.flags]
        return [*asked, "rw"] if "rw" in options.split(",") and "ro" in self.live.flags else asked

    def elsewhere(self, mark: str) -> list[str]:
        """The other paths of lines under this mark; a line has to be of the path that the mark above it has."""
        pairs = ((above, words_of(line)) for above, line in zip(self.text, self.text[1:], strict=False))
        below = (words for above, words in pairs if len(words) >= FIELDS and above == f"{mark}: {words[1].rstrip('/')}")
        paths = [unescaped(words[1]) for words in below if words[0][0] != "#"]
        return [path for path in paths if normal(path) != normal(self.path)]


def told_table(tables: str, facts: str, path: str) -> Table:
    """The tables out of what the two probes said; whatever cannot be read is not there."""
    fstab, _header, kernel = tables.partition("\nmountinfo\n")
    text = tuple(fstab.split("\n")[1:])
    told = {word: rest for word, _space, rest in (line.partition(" ") for line in facts.split("\n"))}
    paths = {normal(path), normal(told.get("path") or path)}
    entries = (words for words in map(words_of, text) if len(words) >= FIELDS and words[0][0] != "#")
    ours = tuple(words for words in entries if words[1].rstrip("/") == escaped(normal(path)))
    mounts = [live for live in map(_live, kernel.split("\n")) if live is not None and live.path in paths]
    return Table(path, ours, text, mounts[-1] if mounts else None, told)


def _live(line: str) -> Live | None:
    words = words_of(line)
    if "-" not in words[:-3] or len(words) < 9:
        return None
    dash = words.index("-")
    before = words[:dash]
    _fstype, source, options = words[dash + 1 : dash + 4]
    flags = frozenset((*before[5].split(","), *options.split(",")))
    return Live(before[2], unescaped(before[3]), unescaped(before[4]), unescaped(source), flags)
