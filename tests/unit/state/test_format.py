"""A folder written in format 1 is read for ever."""

from __future__ import annotations

import shutil
from pathlib import Path

from support_state import converged, open_folder, running

from albor_pipeline.model.resource import Key

FORMAT_1 = Path(__file__).parent / "format_1"


def test_a_folder_of_format_1_is_read_and_goes_on(tmp_path: Path) -> None:
    shutil.copytree(FORMAT_1, tmp_path / "state")
    for _again in range(2):
        with open_folder(tmp_path / "state") as folder:
            state = folder.state
            assert folder.warnings == ()
            assert folder.audit().ok
        assert state.lineage == "3b6c013ef267e03e"
        assert (state.last_run, dict(state.outputs)) == ("0001", {"model": "out/pack"})
        assert dict(state.machine_ids) == {"local": "4c1d"}
        assert set(state.entries) == {Key(name, "local") for name in ("pack", "split", "late")} | {Key("dir", "gpu/1")}
        assert state.entries[Key("pack", "local")] == converged("pack")
        assert state.entries[Key("split", "local")].current == running("split").current
        directory = state.entries[Key("dir", "gpu/1")].in_force
        assert directory is not None
        assert directory.observed == {"mode": "0755"}


def test_the_journal_of_format_1_alone_tells_the_same(tmp_path: Path) -> None:
    shutil.copytree(FORMAT_1, tmp_path / "whole")
    shutil.copytree(FORMAT_1 / "journal", tmp_path / "state/journal")
    with open_folder(tmp_path / "whole", write=False) as whole, open_folder(tmp_path / "state", write=False) as alone:
        assert dict(alone.state.entries) == dict(whole.state.entries)
        assert alone.head() == whole.head()
