"""The text of `store`, from the same documents that --json prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from albor_pipeline.ui import words

Document = Mapping[str, Any]


def _rows(document: Document) -> Iterator[tuple[str, ...]]:
    for machine in document["machines"]:
        for one in machine["results"]:
            ways = sorted(set(one["kept"].values()))
            how = "not kept" if not ways else "/".join(ways)
            force = "in force" if one.get("in_force") else ""
            run, when = f"run {one['run']}", words.minute(one["at_utc"] or "")
            yield machine["machine"], one["resource"], one["id"], run, when, words.size(one["size_bytes"]), how, force


def ls_lines(document: Document) -> list[str]:
    """A line a result, and what all of them weigh."""
    rows = list(_rows(document))
    total = sum(one["size_bytes"] for machine in document["machines"] for one in machine["results"])
    table = words.columns([("machine", "task", "result", "run", "made", "size", "how", ""), *rows]) if rows else []
    return [*table, *([""] if rows else []), f"{words.count(len(rows), 'result')}, {words.size(total)}.", *_silent(document)]


def show_lines(document: Document) -> list[str]:
    """Each result of one task with its outputs and what it was made from."""
    lines: list[str] = []
    for machine in document["machines"]:
        for one in machine["results"]:
            made = f"run {one['run']}, {words.minute(one['at_utc'] or '')} UTC{', in force' if one.get('in_force') else ''}"
            lines.append(f"{one['resource']} on {machine['machine']}, result {one['id']}: {made}")
            for path, proof in one["outputs"].items():
                how = one["kept"].get(path, "volatile" if proof["root"] is None else "not kept")
                size, files = words.size(proof["size_bytes"]), words.count(proof["files"], "file")
                lines.append(f"  {path}  {files}, {size}  {words.digest(proof['root'])}  {how}".rstrip())
            for group, parts in (one.get("parts") or {}).items():
                for name, value in parts.items():
                    lines.append(f"    {group}{'.' if name else ''}{name}  {words.one_line(str(value))[:100]}")
    return [*(lines or ["Nothing is kept of it."]), *_silent(document)]


def verify_lines(document: Document) -> list[str]:
    """What was read, and what is corrupt."""
    lines = []
    for machine in document["machines"]:
        lines += [f"  corrupt  {name}  on {machine['machine']}; it was set aside and is not used" for name in machine["corrupt"]]
        for one in machine["results"]:
            lines.append(f"           {one['resource']} of run {one['run']} can not be restored (result {one['id']})")
        read = f"{words.count(machine['objects'], 'object')}, {words.size(machine['size_bytes'])}"
        lines.append(f"{machine['machine']}: {read} read, {len(machine['corrupt'])} corrupt.")
    return [*lines, *_silent(document)]


def gc_lines(document: Document) -> list[str]:
    """What went, or would go, with its bytes."""
    lines = []
    for machine in document["machines"]:
        for one in machine["results"]:
            lines.append(f"  {machine['machine']}  {one['resource']}  {one['id']}  run {one['run']}  {words.size(one['size_bytes'])}")
        lines += [f"  {machine['machine']}  {one['path']}  {words.size(one['size_bytes'])}" for one in machine["work"]]
        done = "would go" if machine["dry_run"] else "went"
        what = f"{words.count(len(machine['results']), 'result')} and {words.count(machine['objects'], 'object')} {done}"
        lines.append(f"{machine['machine']}: {what}, {words.size(machine['freed_bytes'])} free by it; {machine['kept']} kept.")
        left = machine["incoming"]
        if left["files"]:
            what = f"{words.count(left['files'], 'file')} of transfers that broke off {done} too, {words.size(left['size_bytes'])}"
            lines.append(f"{machine['machine']}: {what} of it.")
        if machine["work"]:
            size = words.size(sum(one["size_bytes"] for one in machine["work"]))
            what = f"{words.count(len(machine['work']), 'work folder')} that no attempt goes on with {done} too, {size}"
            lines.append(f"{machine['machine']}: {what} of it.")
    return [*lines, *_silent(document)]


def _silent(document: Document) -> list[str]:
    return [f"{name} does not answer: {why}" for name, why in document["unreachable"].items()]


LINES: dict[str, Callable[[Document], list[str]]] = {"ls": ls_lines, "show": show_lines, "verify": verify_lines, "gc": gc_lines}
