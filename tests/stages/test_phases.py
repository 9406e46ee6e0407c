"""Where the time of a step went, as a run tells it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from support_model import corpus, metrics, pretrain, settings

pytestmark = pytest.mark.torch
torch = pytest.importorskip("torch")

from stages.lib import phases, prefetch, spikes, trainer  # noqa: E402


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return corpus(tmp_path_factory.mktemp("corpus"))


def test_each_phase_of_a_step_is_told_with_the_seconds_it_took(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Practice 26: only the wall time of a whole step was known. A clock that each phase moves by its own amount says which took what."""
    now = 0.0
    monkeypatch.setattr(phases.time, "perf_counter", lambda: now)

    def takes(owner: Any, name: str, seconds: float) -> None:
        made = getattr(owner, name)

        def slow(*given: Any, **named: Any) -> Any:
            nonlocal now
            now += seconds
            return made(*given, **named)

        monkeypatch.setattr(owner, name, slow)

    takes(prefetch.Prefetch, "micro_batches", 0.5)
    takes(trainer, "loss_sum", 2.0)
    takes(torch.Tensor, "backward", 5.0)
    takes(torch.optim.AdamW, "step", 70.0)
    takes(spikes.SpikeGuard, "decide", 800.0)
    takes(trainer.Trainer, "counters", 9000.0)
    report = pretrain(settings(data, tmp_path / "out", training__max_steps=4, training__log_interval=2), tmp_path / "run")
    lines = [line for line in metrics(tmp_path / "run") if "loss" in line]
    assert [[line[f"{name}_s"] for name in phases.NAMES] for line in lines] == [[2 * 0.5, 2 * 2 * 2.0, 2 * 2 * 5.0, 2 * 70.0]] * 2
    assert [report.metrics[f"seconds_in_{name}"] for name in phases.NAMES] == [2.0, 16.0, 40.0, 280.0]


def test_the_seconds_of_the_phases_are_those_of_the_steps_and_memory_is_told(data: Path, tmp_path: Path) -> None:
    """Practices 25 and 26: what is not in a phase is what watches and logs."""
    found = pretrain(settings(data, tmp_path / "out"), tmp_path / "run").metrics
    parts = [found[f"seconds_in_{name}"] for name in phases.NAMES]
    assert all(isinstance(part, float) and part > 0 for part in parts) and sum(parts) <= found["seconds_in_steps"]
    told = [line["memory_bytes"] for line in metrics(tmp_path / "run") if "loss" in line] + [found["peak_memory_bytes"]]
    pages = 2**20  # the kernel counts by processor, and its mark may fall by some pages
    assert told[0] > 50e6 and all(later > earlier - pages for earlier, later in pairwise(told))


def test_on_a_card_the_seconds_are_those_of_its_events_of_which_few_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card in words: an event comes to pass when its number is reached. A run may show its figures once in a million steps."""
    recorded: list[Event] = []
    passed = 0

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            self.at = 0

        def record(self) -> None:
            recorded.append(self)
            self.at = len(recorded)

        def query(self) -> bool:
            return self.at <= passed

        def elapsed_time(self, later: Event) -> float:
            return 1000.0 * (later.at - self.at)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    one = phases.Phases(torch.device("cuda"))
    for _ in range(3):
        one.begin()
        one.end("forward")
        one.end("backward")
    assert one.seconds() == dict.fromkeys(phases.NAMES, 0.0)
    passed = 8
    assert one.seconds() == {"data": 0.0, "forward": 3.0, "backward": 2.0, "optimizer": 0.0}
    for _ in range(100):
        passed = len(recorded)
        one.begin()
        one.end("forward")
    assert len(one._marks) <= 4 and one.seconds()["backward"] == 3.0
