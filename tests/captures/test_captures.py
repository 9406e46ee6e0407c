"""What was recorded of real tools is read as it was meant; where a tool is here it is asked anew, and its answer reads the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from captures.record import IMAGE, record

from albor_pipeline.resources.cards import Cards
from albor_pipeline.resources.engines import Container, read

HERE = Path(__file__).parent
RECORDED = sorted(HERE.glob("*.yaml"))
ASKED = Container(IMAGE, False, {"A": "x y"}, ["sleep", "500"], frozenset(), frozenset(), "no", "stopped")
MADE = Container(
    IMAGE.removeprefix("localhost/"), False, {"A": "x y"}, ["sleep", "500"], frozenset({"/tmp:/data:ro", "albor-capture:/v"}),
    frozenset({"8080:80/tcp", "127.0.0.1:9000:90/udp"}), "on-failure:3", "stopped",
)  # fmt: skip


def check(found: dict[str, Any]) -> None:
    if found["kind"] == "docker":
        assert read(found["probe"]["stdout"], ASKED) == MADE
        assert "no such container" in found["probe_of_none"]["stderr"].lower() and found["probe_of_none"]["exit"] != 0
        return
    cards, tools = Cards.of(found["probe"]["stdout"]), found["tools"]
    assert cards.complete
    assert (tools["nvcc"] != "none") <= (tools["nvcc"] in cards.toolkits)
    assert (tools["nvidia-smi"] == "none") == (cards.nvidia_state == "absent")
    assert all(card.version and card.persistence != "" and card.compute != "" for card in cards.nvidia)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_was_recorded_reads_as_it_was_made(path: Path) -> None:
    check(yaml.safe_load(path.read_text()))


@pytest.mark.soak
def test_what_the_tools_of_this_machine_answer_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in record(tmp_path):
        check(yaml.safe_load(path.read_text()))
