"""What may be declared, in words: blocks and their fields as `explain` and docs/manifest.md show them. Knows no layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class FieldAbout:
    """One key: the words of what it takes, what it is for, its default as written (empty for none).

    `change` is the class of a resource's field: content, policy or doc; empty elsewhere. One that comes `later` is read and
    checked, and a plan that needs it is refused.
    """

    name: str
    takes: str
    about: str
    required: bool
    default: str = ""
    change: str = ""
    spellings: tuple[str, ...] = ()
    later: bool = False
    fields: tuple[FieldAbout, ...] = ()

    def walk(self, prefix: str = "") -> Iterator[tuple[str, FieldAbout]]:
        """This field and every field inside it, by dotted name."""
        yield prefix + self.name, self
        for inner in self.fields:
            yield from inner.walk(f"{prefix}{self.name}.")


@dataclass(frozen=True)
class BlockAbout:
    """A block of a manifest: a resource type, or one of the other sections; `common` are the fields that all types share.

    A type that comes `later` is read and checked, and a plan that needs it is refused.
    """

    name: str
    about: str
    fields: tuple[FieldAbout, ...]
    common: tuple[FieldAbout, ...] = ()
    is_type: bool = False
    later: bool = False
