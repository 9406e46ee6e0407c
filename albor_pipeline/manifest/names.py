"""The closest known name to a mistyped one. Knows only words."""

from __future__ import annotations

from collections.abc import Collection, Iterable

LONGEST = 64
MAX_COMPARISONS = 200_000


def distance(a: str, b: str, limit: int) -> int:
    """Edits (insert, delete, replace, swap of neighbours) from `a` to `b`; limit + 1 when there are more (optimal string alignment)."""
    if abs(len(a) - len(b)) > limit:
        return limit + 1
    before: list[int] = []
    last = list(range(len(b) + 1))
    for i, left in enumerate(a, start=1):
        row = [i]
        for j, right in enumerate(b, start=1):
            cost = min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (left != right))
            if i > 1 and j > 1 and left == b[j - 2] and a[i - 2] == right:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        if min(row) > limit:
            return limit + 1
        before, last = last, row
    return last[-1]


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known name that `word` most likely means, or None; ties go to the first by name."""
    if not word or len(word) > LONGEST:
        return None
    limit = 0 if len(word) < 2 else 1 if len(word) < 4 else 2 if len(word) < 9 else 3
    lower, best, found = word.lower(), limit + 1, None
    letters = set(lower)
    for name in sorted(known):
        other = name.lower()
        if abs(len(other) - len(lower)) > limit or len(letters ^ set(other)) > 2 * limit:
            continue
        edits = distance(lower, other, best)
        if edits < best:
            best, found = edits, name
    if found is None and len(word) >= 4:
        found = next((name for name in sorted(known) if name.startswith(word) or word.startswith(f"{name}-")), None)
    return found


class Suggester:
    """Suggestions within a bound: after so many compared names there are none, so ten thousand mistakes stay cheap."""

    def __init__(self, comparisons: int = MAX_COMPARISONS) -> None:
        self._left = comparisons
        self._known: dict[tuple[str, Collection[str]], str | None] = {}

    def closest(self, word: str, known: Collection[str]) -> str | None:
        """As the function `closest`, while the bound lasts; an equal question (of a tuple of names) is answered again for nothing."""
        question = (word, known)
        if isinstance(known, tuple):
            if question not in self._known and self._left > 0:
                self._left -= len(known)
                self._known[question] = closest(word, known)
            return self._known.get(question)
        if self._left <= 0:
            return None
        self._left -= len(known)
        return closest(word, known)

    def label(self, word: str, known: Collection[str]) -> str:
        """The label "did you mean `x`?", or nothing."""
        name = self.closest(word, known)
        return f"did you mean `{name}`?" if name else ""
