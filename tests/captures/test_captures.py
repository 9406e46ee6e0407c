"""What was recorded of real tools is read as it was meant; where a tool is here it is asked anew, and its answer reads the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from captures.record import IMAGE, record
from captures.verdict import as_made, verdict

from albor_pipeline.resources.cards import Cards
from albor_pipeline.resources.engines import Container, read
from albor_pipeline.resources.package_apt import ARCHIVES, UNPACKED_AT, weighed

HERE = Path(__file__).parent
RECORDED = sorted(HERE.glob("*.yaml"))
ASKED = Container(IMAGE, False, {"A": "x y"}, ["sleep", "500"], frozenset(), frozenset(), "no", "stopped")
MADE = Container(
    IMAGE.removeprefix("localhost/"), False, {"A": "x y"}, ["sleep", "500"], frozenset({"/tmp:/data:ro", "albor-capture:/v"}),
    frozenset({"8080:80/tcp", "127.0.0.1:9000:90/udp"}), "on-failure:3", "stopped",
)  # fmt: skip


def check(found: dict[str, Any], root: Path) -> None:
    if "fields" in found:
        assert verdict(found, root) == as_made(found, root)
        return
    if found["kind"] == "docker":
        assert read(found["probe"]["stdout"], ASKED) == MADE
        assert "no such container" in found["probe_of_none"]["stderr"].lower() and found["probe_of_none"]["exit"] != 0
        return
    if found["kind"] == "apt":
        agrees_with_apt(found["probe"]["stdout"], found["said"])
        return
    cards, tools = Cards.of(found["probe"]["stdout"]), found["tools"]
    assert cards.complete
    assert (tools["nvcc"] != "none") <= (tools["nvcc"] in cards.toolkits)
    assert (tools["nvidia-smi"] == "none") == (cards.nvidia_state == "absent")
    assert all(card.version and card.persistence != "" and card.compute != "" for card in cards.nvidia)


def agrees_with_apt(text: str, said: str) -> None:
    brought = weighed(text)
    for path, words in ((ARCHIVES, "Need to get"), (UNPACKED_AT, "After this operation,")):
        told = re.search(rf"{words} ([0-9.,]+) (k?M?)B", said)
        expected = 0.0 if told is None else float(told[1].replace(",", "")) * {"": 1, "k": 1e3, "M": 1e6}[told[2]]
        sizes = [each.size_bytes for each in brought if each.path == path]
        assert sum(size or 0 for size in sizes) == pytest.approx(expected, rel=0.01, abs=1500), path
        assert None not in sizes


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_what_was_recorded_reads_as_it_was_made(path: Path, tmp_path: Path) -> None:
    check(yaml.safe_load(path.read_text()), tmp_path)


@pytest.mark.soak
def test_what_the_tools_of_this_machine_answer_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in record(tmp_path):
        check(yaml.safe_load(path.read_text()), tmp_path)
