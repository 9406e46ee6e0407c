"""Path patterns: `*` is anything within one folder, `**` anything below, `?` one character. Knows no manifest and no disk.

A pattern is an automaton whose states are the bits of one number, so that no pattern and no path makes it slow: a character
of the path costs one step, whatever the wildcards are (a regular expression would try every way to share the path among them).
"""

from __future__ import annotations

import re

WILDCARDS = re.compile(r"\*+|\?")


class PathPattern:
    """A pattern that a whole path matches or not."""

    def __init__(self, text: str) -> None:
        first = WILDCARDS.search(text)
        self.text = text
        self._head = text if first is None else text[: first.start()]
        self._plain = first is None
        self._letters: dict[str, int] = {}
        self._one = self._star = self._deep = self._end = 0
        at = len(self._head)
        for word in WILDCARDS.finditer(text, at):
            self._add_letters(text[at : word.start()])
            self._add_wildcard(word[0])
            at = word.end()
        self._add_letters(text[at:])

    def _add_letters(self, text: str) -> None:
        for letter in text:
            self._letters[letter] = self._letters.get(letter, 0) | 1 << self._end
            self._end += 1

    def _add_wildcard(self, word: str) -> None:
        bit = 1 << self._end
        if word == "?":
            self._one |= bit
        elif word == "*":
            self._star |= bit
        else:
            self._deep |= bit
        self._end += 1

    def _past(self, states: int) -> int:
        """The states, and those behind a `*` or `**` that takes nothing; no two of them stand side by side."""
        return states | (states & (self._star | self._deep)) << 1

    def matches(self, path: str) -> bool:
        """True when the whole path is of this form."""
        if self._plain or not path.startswith(self._head):
            return self._plain and path == self.text
        states = self._past(1)
        for letter in path[len(self._head) :]:
            inside = letter != "/"
            moved = states & (self._letters.get(letter, 0) | (self._one if inside else 0))
            states = self._past(moved << 1 | states & (self._deep | (self._star if inside else 0)))
            if not states:
                return False
        return bool(states >> self._end & 1)
