"""The model of the stateful test: what must lie at the outputs, what ran how often, and what is kept. Knows nothing of the product."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

READS = {
    "a": ("in.txt",),
    "b": ("out/a",),
    "c": ("out/a", "more.txt"),
    "d": ("out/b", "out/c/one", "out/c/sub/two"),
    "e": ("more.txt",),
}
DECLARES = {"a": "out/a", "b": "out/b", "c": "out/c", "d": "out/d-*", "e": "out/e"}
MAKES = {"a": ("out/a",), "b": ("out/b",), "c": ("out/c/one", "out/c/sub/two"), "d": ("out/d-1", "out/d-2"), "e": ("out/e",)}
ADDED = {"c": "out/c/sub/more", "d": "out/d-9"}
LOSSY = "b"
Files = dict[str, str]
Made = tuple[str, Files]


def command(name: str, word: str) -> str:
    """`word` is shell that prints a word. What a task read is told in its result, so that results can be told apart.

    `b` keeps only the number of lines, so that a change above it often ends there; the others keep all they read.
    """
    reads = " ".join(READS[name])
    tag = f"for f in {reads}; do printf '|'; tr '\\n' '/' < $f; done"
    first, *second = MAKES[name]
    folders = sorted({path.rpartition("/")[0] for path in MAKES[name]})
    lines = [
        f"set -e; echo {name} >> starts.log; while grep -qsx {name} hold; do sleep 0.01; done; sleep 0.03; w=$({word})",
        f'printf \'{{"headline": "%s"}}\' "$w$({tag})" > "$ALBOR_ATTEMPT/result.json"; mkdir -p {" ".join(folders)}',
        f"{{ {f'cat {reads} | wc -l' if name == LOSSY else f'cat {reads}'}; echo {name} $w; }} > {first}",
        *(f"echo {name}2 $w > {path}" for path in second),
    ]
    return "\n      ".join(lines)


@dataclass
class Model:
    """By task: the proven result, the newest attempt that is not recorded yet, and all that is kept; and the files that are there."""

    words: dict[str, str]
    files: Files = field(default_factory=dict)
    proven: dict[str, Made] = field(default_factory=dict)
    attempted: dict[str, Made] = field(default_factory=dict)
    kept: dict[tuple[str, str], Files] = field(default_factory=dict)
    spoilt: set[str] = field(default_factory=set)
    starts: Counter[str] = field(default_factory=Counter)
    users: set[str] = field(default_factory=set)

    def wanted(self, name: str) -> Made:
        """What it was made from, which stands for the fingerprint, and what that comes to."""
        texts = [self.files.get(path, "") for path in READS[name]]
        shows = f"{sum(text.count(chr(10)) for text in texts)}\n" if name == LOSSY else "".join(texts)
        word, (first, *second) = self.words[name], MAKES[name]
        made = {first: f"{shows}{name} {word}\n", **dict.fromkeys(second, f"{name}2 {word}\n")}
        return "|".join([word, *(text.replace("\n", "/") for text in texts)]), made

    def there(self, name: str) -> Files:
        return {path: text for path, text in self.files.items() if path.startswith(f"out/{name}")}

    def action(self, name: str) -> str:
        """`skip`, `adopt`, `restore` or `run`, once everything that the task reads is settled."""
        made, there, proven = self.wanted(name), self.there(name), self.proven.get(name)
        if proven is not None and proven[0] == made[0]:
            if there == proven[1]:
                return "skip"
        elif self.attempted.get(name) == (made[0], there):
            return "adopt"
        kept = self.kept.get((name, made[0]))
        return "run" if kept is None or self.spoilt.intersection(kept.values()) else "restore"

    def apply(self) -> None:
        """A whole run, undisturbed or continued."""
        for name in READS:
            self.step(name, self.action(name))

    def step(self, name: str, action: str) -> None:
        if action == "run":
            self.started(name)
        if action == "restore":
            self.put(name, self.wanted(name)[1])
            self.use(name)
        if action != "skip":
            self.proven[name] = self.wanted(name)
            self.attempted.pop(name, None)

    def started(self, name: str) -> None:
        """The task was started, and its attempt goes on to its end whatever happens to us."""
        self.starts[name] += 1
        self.attempted[name] = self.wanted(name)
        self.put(name, self.wanted(name)[1])
        self.spoilt -= set(self.wanted(name)[1].values())
        self.use(name)

    def lost(self, name: str) -> None:
        """Its supervisor was killed: the command went on to its end, and nothing proves that."""
        self.starts[name] += 1
        self.attempted.pop(name, None)
        self.put(name, self.wanted(name)[1])

    def put(self, name: str, made: Files) -> None:
        """What lay at the outputs gives way; of that, what the user wrote is kept elsewhere."""
        self.files = {path: text for path, text in self.files.items() if path not in self.there(name)} | made

    def use(self, name: str) -> None:
        tag, made = self.wanted(name)
        self.kept.pop((name, tag), None)
        self.kept[name, tag] = made

    def in_force(self) -> set[tuple[str, str]]:
        return {(name, tag) for name, (tag, _) in self.proven.items()}

    def drifted(self) -> set[str]:
        return {name for name, (_, made) in self.proven.items() if self.there(name) != made}

    def write(self, path: str, text: str | None) -> None:
        """The user writes or deletes a file."""
        self.users.discard(self.files.pop(path, ""))
        if text is not None:
            self.files[path] = text
