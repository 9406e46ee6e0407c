"""Scripts: every shell text of a manifest with its place, and what a linter says of one as diagnostics there. Runs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, get_args

from albor_pipeline.errors import Diagnostic, Span
from albor_pipeline.model.manifest import Manifest
from albor_pipeline.model.resource import Resource
from albor_pipeline.resources.fields import Fields

BASH, SH = "bash", "sh"
COMMANDS = {"command": BASH, "resume_command": BASH, "completion_check": BASH}
BY_SH = ("cron",)
HOOKS = ("pre_apply", "post_apply", "on_success", "on_failure", "on_drift")
NOT_SHELL = ("docker", "image")
PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:,@%+ ")
WORDS = frozenset((
    "if", "then", "else", "elif", "fi", "for", "while", "until", "do", "done", "case", "esac", "select", "function", "time",
    "coproc", "in", "cd", "exit", "return", "local", "rm",
))  # fmt: skip
PARSE_ERROR = 1073
PARSE_ENDS = (1072, 1009)


@dataclass(frozen=True)
class Script:
    """A shell text; `where` is how it is spoken of, `known` are variables that it gets from its declaration."""

    text: str
    shell: str
    where: str
    span: Span | None
    known: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Remark:
    """What a linter says: level (error or warning), its number, the line and column in the script, and a sentence."""

    level: str
    code: int
    line: int
    column: int
    end: int
    message: str


def scripts_of(manifest: Manifest, chosen: Iterable[str] | None = None) -> Iterator[Script]:
    """Every shell text that needs a look, of all resources or of some; plain words are left out, there is nothing to say of them."""
    return (script for script in _all(manifest, manifest.resources if chosen is None else chosen) if not _is_plain(script.text))


def _all(manifest: Manifest, chosen: Iterable[str]) -> Iterator[Script]:
    policy = manifest.policy
    for name in HOOKS:
        text = getattr(policy, name)
        if text is not None:
            yield Script(text, SH, f"`{name}` of the policy", policy.spans.get(name) or policy.spans.get(f"notify.{name}"))
    for source in manifest.data:
        if source.type == "command":
            yield Script(source.value, SH, f"`value` of data source `{source.name}`", source.at)
    for check in manifest.checks:
        yield Script(check.command, SH, f"`command` of check `{check.name}`", check.at)
    for resource in (manifest.resources[name] for name in chosen):
        for name, text in resource.hooks.items():
            yield Script(text, SH, f"`{name}` of `{resource.id}`", resource.spans.get(name) or resource.span)
        for fields in (resource.fields, *resource.fields_by_machine.values()):
            if isinstance(fields, Fields) and resource.kind not in NOT_SHELL:
                shells = {"command": SH} if resource.kind in BY_SH else {}
                yield from _in_block(resource, fields, "", frozenset(getattr(fields, "env", None) or ()), {**COMMANDS, **shells})


def _in_block(
    resource: Resource, fields: Fields, prefix: str, known: frozenset[str], shells: Mapping[str, str]
) -> Iterator[Script]:
    for name, holds_blocks in _shape(type(fields)):
        value = getattr(fields, name)
        if not holds_blocks:
            if value is not None:
                span = resource.spans.get(prefix + name) or resource.span
                yield Script(value, shells[name], f"`{prefix}{name}` of `{resource.id}`", span, known)
        else:
            for word, inner in _inner(value):
                yield from _in_block(resource, inner, f"{prefix}{name}.{word}", known, shells)


def _inner(value: Any) -> Iterator[tuple[str, Fields]]:
    if isinstance(value, Fields):
        yield "", value
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield from ((f"{index}.", item) for index, item in enumerate(value) if isinstance(item, Fields))


@lru_cache(maxsize=256)
def _shape(model: type[Fields]) -> tuple[tuple[str, bool], ...]:
    """The fields of a model that are shell text (False) or blocks that hold some (True)."""
    found: list[tuple[str, bool]] = []
    for name, info in model.model_fields.items():
        if name in COMMANDS:
            found.append((name, False))
        elif any(_shape(block) for block in _blocks(info.annotation) if block is not model):
            found.append((name, True))
    return tuple(found)


def _blocks(annotation: Any) -> Iterator[type[Fields]]:
    if isinstance(annotation, type) and issubclass(annotation, Fields):
        yield annotation
    for item in get_args(annotation):
        yield from _blocks(item)


def _is_plain(text: str) -> bool:
    return PLAIN.issuperset(text) and text.partition(" ")[0] not in WORDS


def told(script: Script, remarks: Iterable[Remark]) -> Iterator[Diagnostic]:
    """The remarks as diagnostics at their lines of the manifest."""
    remarks = list(remarks)
    ends = [item.message for item in remarks if item.code in PARSE_ENDS]
    cannot = any(item.code == PARSE_ERROR for item in remarks)
    for item in remarks:
        if (cannot and item.code in PARSE_ENDS) or item.message.split(" ", 1)[0] in script.known:
            continue
        span, line = place(script, item)
        message = f"{script.where}{line}: {item.message}"
        notes = tuple(ends) if item.code == PARSE_ERROR else ()
        if item.code >= 2000:
            notes = (*notes, f"if it is meant so, write `# shellcheck disable=SC{item.code}` on the line before")
        yield Diagnostic(item.level, f"SC{item.code}", message, span, "", notes)


def place(script: Script, remark: Remark) -> tuple[Span | None, str]:
    """The line of the manifest that a remark means; where the text was written otherwise, its field and the line of the script."""
    span = script.span
    if span is None:
        return None, f", line {remark.line}"
    lines = span.source.text.split("\n")
    first = lines[span.line - 1][span.column - 1 :]
    wanted = script.text.split("\n")[remark.line - 1 : remark.line]
    if first.startswith("|"):
        found = _in_literal(lines, span, remark)
        if found is not None:
            return found, ""
    elif "\n" not in script.text:
        at = first.find(script.text)
        if at >= 0 and wanted:
            start = span.column + at + remark.column - 1
            return Span(span.source, span.line, start, _length(remark)), ""
        return span, ""
    return span, f", line {remark.line}"


def _in_literal(lines: Sequence[str], span: Span, remark: Remark) -> Span | None:
    """Line N of a literal block is the N-th line below its `|`."""
    at = span.line + remark.line - 1
    if at >= len(lines):
        return None
    indent = next((len(line) - len(line.lstrip(" ")) for line in lines[span.line :] if line.strip()), 0)
    line = lines[at].rstrip("\r")
    if "{{" in line:
        return Span(span.source, at + 1, indent + 1, max(1, len(line) - indent))
    return Span(span.source, at + 1, indent + remark.column, _length(remark))


def _length(remark: Remark) -> int:
    return max(1, remark.end - remark.column)


def remark_from(raw: Mapping[str, Any]) -> Remark:
    """A remark from the linter's own JSON."""
    same = raw["line"] == raw["endLine"]
    level = "error" if raw["level"] == "error" else "warning"
    end = raw["endColumn"] if same else raw["column"] + 1
    return Remark(level, int(raw["code"]), int(raw["line"]), int(raw["column"]), int(end), str(raw["message"]))
