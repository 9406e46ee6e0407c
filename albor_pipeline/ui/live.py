"""The reporter of a run: plain lines where there is no terminal, a live block of running steps where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from albor_pipeline.model.events import Event, MoveEvent, ProgressEvent, Reporter, StepEvent
from albor_pipeline.model.plan import Plan
from albor_pipeline.model.resource import Key
from albor_pipeline.ui import words
from albor_pipeline.ui.hints import NOTHING_GIVEN, Hints
from albor_pipeline.ui.run_text import RunLines

if TYPE_CHECKING:
    from rich.live import Live

RUNNING = ("running", "attached", "moving", "fetching")
STYLES = {"FAILED": "bold red", "done": "green", "created": "green", "updated": "green", "running": "cyan", "moving": "cyan"}


@contextmanager
def reporter(plan: Plan, stream: TextIO, hints: Hints = NOTHING_GIVEN) -> Iterator[Reporter]:
    """A reporter for one run; on a terminal it draws with rich, elsewhere it prints lines."""
    lines = RunLines(list(plan.machines), [step.key.resource for step in plan.changes], hints)
    if not stream.isatty():
        yield _plain(lines, stream)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(file=stream, highlight=False), refresh_per_second=4, transient=True) as live:
        yield _Drawn(lines, live)


def _plain(lines: RunLines, stream: TextIO) -> Reporter:
    def report(event: Event) -> None:
        text = "".join(f"{line}\n" for line in lines.of(event))
        with suppress(BrokenPipeError):
            stream.write(text)
            stream.flush()

    return report


class _Drawn:
    """Finished steps scroll away above; running ones stay below with their progress."""

    def __init__(self, lines: RunLines, live: Live) -> None:
        self._lines = lines
        self._live = live
        self._running: dict[Key, str] = {}

    def __call__(self, event: Event) -> None:
        from rich.text import Text

        if isinstance(event, ProgressEvent):
            if event.key in self._running:
                self._running[event.key] = ", ".join(words.progress(event.progress))
        else:
            if isinstance(event, StepEvent | MoveEvent):
                if event.word in RUNNING:
                    self._running[event.key] = ""
                else:
                    self._running.pop(event.key, None)
            style = STYLES.get(event.word, "") if isinstance(event, StepEvent | MoveEvent) else ""
            for line in self._lines.of(event):
                self._live.console.print(Text(line, style=style), soft_wrap=True)
        rows = [f"  {key.resource} on {key.machine}  {text}" for key, text in self._running.items()]
        self._live.update(Text("\n".join(rows), style="cyan"))
