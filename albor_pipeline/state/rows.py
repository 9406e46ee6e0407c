"""Rows: the entries of a state by key, decoded when asked for; a row nobody touched is written back byte for byte. Knows no files."""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping

from albor_pipeline.model.resource import Key
from albor_pipeline.model.state import Entry
from albor_pipeline.state import codec
from albor_pipeline.state.lockfile import damaged

_BEFORE_NAME = b'{"resource":"'
_AFTER_NAME = b'","kind":"'


class Rows(MutableMapping[Key, Entry]):
    """A mapping that holds each row as its text, as an Entry, or as both; reading a row that makes no sense raises Damaged."""

    def __init__(self) -> None:
        self._entries: dict[Key, Entry | None] = {}
        self._texts: dict[Key, bytes] = {}

    def add_text(self, text: bytes, machine: str) -> None:
        """Take a row as it stands in a lock file, without decoding more than its name."""
        key = Key(_name(text), machine)
        self._entries[key] = None
        self._texts[key] = text

    def text(self, key: Key) -> bytes:
        """The row as it stands in a lock file."""
        text = self._texts.get(key)
        if text is None:
            text = self._texts[key] = codec.dumps(codec.entry_to_json(self[key])).encode()
        return text

    def __getitem__(self, key: Key) -> Entry:
        entry = self._entries[key]
        if entry is None:
            entry = self._entries[key] = self._decode(key)
        return entry

    def __setitem__(self, key: Key, entry: Entry) -> None:
        self._entries[key] = entry
        self._texts.pop(key, None)

    def __delitem__(self, key: Key) -> None:
        del self._entries[key]
        self._texts.pop(key, None)

    def __iter__(self) -> Iterator[Key]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def clear(self) -> None:
        """Forget every row."""
        self._entries.clear()
        self._texts.clear()

    def _decode(self, key: Key) -> Entry:
        try:
            return codec.entry_from_json(json.loads(self._texts[key]), key.machine)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise damaged(f"the row of {key} cannot be read ({type(error).__name__}: {error})") from error


def _name(text: bytes) -> str:
    """The resource of a row; the text between its first two keys, since a quote inside a JSON string is escaped."""
    end = text.find(_AFTER_NAME)
    if text.startswith(_BEFORE_NAME) and end > 0:
        name = text[len(_BEFORE_NAME) : end]
        if b"\\" not in name and b'"' not in name:
            return name.decode()
    return str(json.loads(text)["resource"])
