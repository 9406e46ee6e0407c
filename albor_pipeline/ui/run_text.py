"""The lines of a run: one for each event, and the report at its end. Colour is never the only sign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from albor_pipeline.model.events import Event, LogEvent, MoveEvent, NoteEvent, RunReport, RunStarted, StepEvent
from albor_pipeline.model.plan import Action
from albor_pipeline.ui import words
from albor_pipeline.ui.hints import NOTHING_GIVEN, Hints

ORDER = (
    "done", "created", "updated", "restored", "fetched", "adopted", "forgotten", "destroyed", "drifted",
    "failed", "cancelled", "held", "not started", "unchanged",
)  # fmt: skip


class RunLines:
    """Turns events into lines; widths are those of the longest names, so that columns stand still."""

    def __init__(self, machines: list[str], resources: list[str], hints: Hints = NOTHING_GIVEN) -> None:
        self._hints = hints
        self._machine = max((len(name) for name in machines), default=0)
        self._resource = max((len(name) for name in resources), default=0)

    def of(self, event: Event) -> list[str]:
        """The lines of one event; progress has none here."""
        if isinstance(event, RunStarted):
            machines = words.count(event.machines, "machine")
            return [f"run {event.run}: up to {event.to_do} to do, {event.unchanged} unchanged, {machines} (log: {event.folder}/)"]
        if isinstance(event, NoteEvent):
            return [event.text]
        if isinstance(event, StepEvent):
            return self._step(event)
        if isinstance(event, MoveEvent):
            return [f"{self._head(event, event.word)}  {move(event)}"]
        if isinstance(event, LogEvent):
            return [f"{self._head(event, 'printed')}  {self._missed(event)}".rstrip(), *_quoted(event.lines)]
        return []

    def _head(self, event: StepEvent | MoveEvent | LogEvent, word: str) -> str:
        return f"{words.clock(event.at_utc)}  {event.key.machine:<{self._machine}}  {event.key.resource:<{self._resource}}  {word:<9}"

    def _missed(self, event: LogEvent) -> str:
        parts = [f"unwatched for {words.seconds(event.since_s)}, from just before"] if event.since_s is not None else []
        if event.more:
            count = f"{'at least ' if event.uncounted else ''}{words.count(event.more, 'line')} more"
            parts.append(f"{count}: {self._hints.again('logs', event.key.resource)}")
        return "    ".join(parts)

    def _step(self, event: StepEvent) -> list[str]:
        lines = [f"{self._head(event, event.word)}  {self._tail(event)}".rstrip(), *_quoted(event.tail)]
        if event.word == "FAILED" and event.log:
            lines.append(f"            | log: {event.log}")
        return lines

    def _tail(self, event: StepEvent) -> str:
        if event.word == "running":
            return event.note or (f"last time {words.seconds(event.seconds)}" if event.seconds is not None else "")
        parts = [words.seconds(event.seconds)] if event.seconds is not None else []
        if event.note:
            parts.append(self._hints.reason(event.note) if event.word == Action.CONFLICT.word else event.note)
        for path, proof in list(event.outputs.items())[:3]:
            parts.append("  ".join(part for part in (path, words.size(proof.size_bytes), words.digest(proof.root)) if part))
        if len(event.outputs) > 3:
            parts.append(f"and {len(event.outputs) - 3} more")
        return "    ".join(parts)


def _quoted(lines: Sequence[str]) -> list[str]:
    return [f"            | {words.one_line(line)}" for line in lines]


def move(event: MoveEvent) -> str:
    """`data/mixed from lambda    41 files, 4.1 GB`, at the end with the time and the rate before it."""
    moved = event.moved
    what = f"{moved.path} from {moved.source}"
    sent = f"{words.count(moved.files, 'file')}, {words.size(moved.size_bytes)}" if moved.files else "nothing had to be sent"
    if event.word != "moved":
        return f"{what}    {sent}"
    rate = f"    {words.size(moved.size_bytes / moved.seconds)}/s" if moved.files and moved.seconds > 0 else ""
    return f"{words.seconds(moved.seconds)}    {what}    {sent}{rate}"


def report_lines(report: RunReport, hints: Hints, manifest: str) -> list[str]:
    """What became of the run, the table of artifacts, what the tasks said, and what the manifest publishes."""
    counts = words.counted(report.counts, ORDER) or "nothing was done"
    lines = [""]
    if report.broken:
        lines += [f"Stopped: {report.broken}", f"{counts}. Attempts that are running go on; the next run finds them."]
        return lines
    if report.interrupted:
        lines.append(f"Interrupted: {counts}.")
        for key in report.still_running:
            lines.append(f"  {key.resource} goes on on {key.machine}; to watch it: {hints.again('attach', key.resource)}")
        return [*lines, "State is saved. The same command continues."]
    if report.failed:
        first = "Stopped at the first failure: " if report.stopped else "Finished with failures: "
        return [*lines, f"{first}{counts}.", "State is saved. Fix the cause and run the same command; finished work is not repeated."]
    if report.counts.get("held") or report.counts.get("unreachable"):
        return [*lines, f"Not everything could be done: {counts}.", f"To see why: {hints.likewise('plan')}"]
    if report.counts.get("drifted"):
        lines.append("What drifted was left as it is, as `policy.drift` says.")
    see = [] if report.summaries else [f"To see it: {hints.at(manifest).again('status')}"]
    return [*lines, f"Done: {counts}.", *artifact_lines(report), *see]


def artifact_lines(report: RunReport) -> list[str]:
    """Artifacts with sizes and digests, then the headlines of the tasks, then the values that the manifest publishes."""
    rows = [
        (key.resource, path, words.count(proof.files, "file"), words.size(proof.size_bytes), words.digest(proof.root))
        for key, path, proof in report.outputs
    ]
    lines = ["", *words.columns([("task", "artifact", "files", "size", "digest"), *rows])] if rows else []
    said = [(key.resource, line) for key, summary in report.summaries for line in headlines(summary)]
    if said:
        lines += ["", *words.columns(said)]
    if report.values:
        lines += ["", *words.columns([(f"{name}:", value) for name, value in report.values.items()])]
    return lines


def headlines(summary: Mapping[str, Any]) -> list[str]:
    """What a task said of itself, line by line; a result.json of any shape gives some text."""
    said = summary.get("headline") or ()
    gate = [f"quality gate: {summary['gate']}"] if summary.get("gate") else []
    return [words.one_line(str(line)) for line in (*(said if isinstance(said, list | tuple) else [said]), *gate)]
