"""The disk suite on the real disk and on the simulated one."""

from __future__ import annotations

from pathlib import Path

import pytest
from conformance.disk_suite import DiskSuite
from sim_disk import SimDisk

from albor_pipeline.state.disk import Disk, RealDisk


class TestRealDisk(DiskSuite):
    @pytest.fixture
    def disk(self) -> Disk:
        return RealDisk()

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path


class TestSimDisk(DiskSuite):
    @pytest.fixture
    def disk(self) -> Disk:
        disk = SimDisk()
        disk.mkdir(Path("/folder"))
        return disk

    @pytest.fixture
    def folder(self) -> Path:
        return Path("/folder")
