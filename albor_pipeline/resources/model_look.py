"""A program for machines: what lies at a model's path. Standard library only (Python >= 3.9); its text is sent, it is never imported here.

Reads {"path", "part", "record", "format", "quantization", "deep", "expect"} on stdin; writes {"type", "part_bytes", "record", "changed",
"format", "quantization", "owner"}. With `expect` it says nothing, or fails with a sentence when format or quantization is another; with
`keep` what nobody fetched is linked into that folder, too; with `remove` what was fetched goes, and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import sys
from typing import Any, BinaryIO, Optional

Known = tuple[Optional[str], Optional[str]]
GGUF_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L",
    14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS",
    23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M",
    32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE",
}  # fmt: skip
SIZES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
MAX_HEADER = 100 << 20


def files_of(path: str) -> list[str]:
    """The file, or all files of the folder."""
    if os.path.isfile(path):
        return [path]
    return sorted(os.path.join(folder, name) for folder, _below, names in os.walk(path) for name in names)


def fetched(path: str, record: Any) -> list[str]:
    """The files that are there and were fetched; all where nothing is known of them."""
    names = files_of(path)
    return names if record is None else [name for name in names if relative(name, path) in record.get("files", {})]


def relative(name: str, path: str) -> str:
    """The name of a file as it is recorded."""
    return os.path.relpath(name, path) if os.path.isdir(path) else ""


def others(path: str, record: Any) -> list[str]:
    """The files, and links to folders, that are in the folder and were not fetched."""
    links = [os.path.join(folder, name) for folder, below, _names in os.walk(path) for name in below]
    mine = set(fetched(path, record))
    return sorted(name for name in [*files_of(path), *filter(os.path.islink, links)] if name not in mine)


def keep(path: str, record: Any, folder: str, proven: bool) -> None:
    """Link what nobody fetched into the folder that replaces this one; the end where a checksum says that there is nothing else."""
    left = others(path, record) if record is not None and os.path.isdir(path) and not os.path.islink(path) else []
    if left and (proven or not os.path.isdir(folder)):
        sys.exit("%s would be replaced, and holds what was not fetched: %s: move it away" % (path, some(left, path)))
    for name in left:
        target = os.path.join(folder, relative(name, path))
        if not os.path.lexists(target):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            try:
                os.link(name, target, follow_symlinks=False)
            except OSError:
                shutil.copy2(name, target, follow_symlinks=False)


def some(names: list[str], path: str) -> str:
    """The names of files, as far as a sentence has room."""
    return ", ".join(relative(name, path) for name in names[:5]) + (" and %d more" % (len(names) - 5) if len(names) > 5 else "")


def remove(path: str, record: Any, strict: bool) -> None:
    """Remove what was fetched, then folders that are empty; the end where nobody knows what was fetched, or, if strict, more is there."""
    if os.path.islink(path) or not os.path.isdir(path):
        if os.path.lexists(path):
            os.unlink(path)
        return
    if record is None:
        sys.exit("%s is a folder that was not fetched for this resource: remove it by hand" % path)
    for name in fetched(path, record):
        os.unlink(name)
    for folder, _below, _names in os.walk(path, topdown=False):
        if not os.listdir(folder):
            os.rmdir(folder)
    if strict and os.path.isdir(path):
        sys.exit("%s holds what was not fetched: %s: move it away" % (path, some(others(path, record), path)))


def gguf_type(file: BinaryIO) -> str | None:
    """The text of general.file_type, None where the file does not say."""

    def number(code: str) -> int:
        return int(struct.unpack("<" + code, file.read(struct.calcsize(code)))[0])

    def skip(kind: int) -> None:
        if kind == STRING:
            file.seek(number("Q"), 1)
        elif kind == ARRAY:
            inner, count = number("I"), number("Q")
            for _each in range(count if inner in (STRING, ARRAY) else 0):
                skip(inner)
            if inner not in (STRING, ARRAY):
                file.seek(count * struct.calcsize(SIZES[inner]), 1)
        else:
            file.seek(struct.calcsize(SIZES[kind]), 1)

    number("I")
    number("Q")
    for _key in range(number("Q")):
        name = file.read(min(number("Q"), 1 << 16))
        kind = number("I")
        if name == b"general.file_type" and kind in SIZES:
            return GGUF_TYPES.get(number(SIZES[kind]))
        skip(kind)
    return None


def safetensors_types(file: BinaryIO) -> dict[str, int]:
    """How many bytes there are of each type of numbers."""
    size = struct.unpack("<Q", file.read(8))[0]
    if size > MAX_HEADER:
        raise ValueError("no header")
    found: dict[str, int] = {}
    for name, tensor in json.loads(file.read(size)).items():
        if name != "__metadata__":
            begin, end = tensor["data_offsets"]
            found[tensor["dtype"]] = found.get(tensor["dtype"], 0) + end - begin
    return found


def known_by_header(path: str) -> Known:
    """(format, quantization) of one file, either None where its bytes do not say."""
    try:
        with open(path, "rb") as file:
            if file.read(4) == b"GGUF":
                return "gguf", gguf_type(file)
            if path.endswith(".safetensors") or len(os.path.basename(path).split(".")) == 1:
                file.seek(0)
                types = safetensors_types(file)
                return "safetensors", max(types, key=lambda name: types[name]) if types else None
    except (OSError, ValueError, KeyError, TypeError, struct.error, RecursionError, AttributeError):
        pass
    return None, None


def declared_method(path: str) -> str:
    """The method that a folder's config.json says its weights are quantized by, empty where there is none."""
    try:
        with open(os.path.join(path, "config.json")) as file:
            return str(json.load(file)["quantization_config"]["quant_method"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def appearance(path: str, names: list[str], form: str, quantization: str) -> tuple[str, str]:
    """Format and quantization by what the bytes say; of formats that are not known here, by the names of the files."""
    seen = [known_by_header(name) for name in names if not name.endswith((".json", ".txt", ".md"))]
    formats = sorted({each[0] for each in seen if each[0]})
    if not formats:
        suffixes = sorted({os.path.splitext(name)[1].lstrip(".").lower() for name in names} - {"json", "txt", "md", ""})
        named = any(quantization.lower() in os.path.basename(name).lower() for name in names)
        return told(suffixes, form), quantization if quantization and named else "unknown"
    return told(formats, form, alone=True), told([declared_method(path), *sorted({each[1] for each in seen if each[1]})], quantization)


def told(found: list[str], wanted: str, *, alone: bool = False) -> str:
    """The wanted word where it is what was found, or among it; else all that was found."""
    words = [word for word in found if word]
    same = [word for word in words if word.lower() == wanted.lower()]
    return wanted if same and (len(words) == 1 or not alone) else " and ".join(words) or "unknown"


def digest(path: str) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        hasher = hashlib.sha256()
        for part in iter(lambda: file.read(1 << 20), b""):
            hasher.update(part)
    return hasher.hexdigest()


def changed(path: str, record: dict[str, Any], deep: bool) -> list[str]:
    """The files that were fetched and are not as they were; what somebody added is no concern of the model's."""
    there = {relative(name, path): name for name in fetched(path, record)}
    recorded = record.get("files", {})
    off = sorted(recorded.keys() - there.keys())
    for name in sorted(there):
        info = os.stat(there[name])
        same = (info.st_size, info.st_mtime_ns) == (recorded[name]["size"], recorded[name]["mtime_ns"])
        if not same or (deep and digest(there[name]) != recorded[name]["sha256"]):
            off.append(name)
    return [name or os.path.basename(path) for name in off]


def owner_of(path: str, names: list[str]) -> str:
    """The accounts that own it and what was fetched."""
    import pwd

    owners = {os.lstat(name).st_uid for name in [path, *names]}
    shown = []
    for number in sorted(owners):
        try:
            shown.append(pwd.getpwuid(number).pw_name)
        except KeyError:
            shown.append(str(number))
    return ", ".join(shown)


def bytes_of(path: str) -> int:
    """How much of it is there."""
    return sum(os.lstat(name).st_size for name in files_of(path)) if os.path.exists(path) else 0


def recorded(path: str) -> Any:
    """What was noted when it was fetched, None where nothing was."""
    try:
        with open(path) as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def main() -> None:
    """Answer what stdin asks."""
    asked = json.load(sys.stdin)
    asked.update({name: os.path.expanduser(asked[name]) for name in ("path", "part", "record", "keep") if asked.get(name)})
    if asked.get("keep"):
        keep(asked["path"], recorded(asked["record"]), asked["keep"], bool(asked["proven"]))
    elif asked.get("remove"):
        remove(asked["path"], recorded(asked["record"]), bool(asked["strict"]))
    else:
        look(asked)


def look(asked: dict[str, Any]) -> None:
    """Say what is there."""
    path, wanted = asked["path"], (asked.get("format") or "", asked.get("quantization") or "")
    record = recorded(asked["record"])
    if not os.path.lexists(path):
        part = sum(bytes_of(os.path.join(asked["part"], name)) for name in ("files", "result"))
        json.dump({"type": "absent", "part_bytes": part}, sys.stdout)
        return
    names = files_of(path) if asked.get("expect") else fetched(path, record)
    seen = appearance(path, names, *wanted)
    if asked.get("expect"):
        if any(one and one != two for one, two in zip(wanted, seen)):  # noqa: B905 (Python 3.9)
            sys.exit("what was fetched is %s, quantization %s; it was removed" % seen)
        return
    answer = {
        "type": "dir" if os.path.isdir(path) else "file",
        "record": record,
        "changed": changed(path, record, bool(asked.get("deep"))) if record is not None else [],
        "format": seen[0],
        "quantization": seen[1],
        "owner": owner_of(path, names),
    }
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
