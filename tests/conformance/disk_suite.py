"""What every Disk promises; a suite runs for each of them, so that the simulated one can be trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from albor_pipeline.state.disk import Disk, atomic_write, remove_temporaries


class DiskSuite:
    """Subclasses give the fixtures `disk` and `folder` (an empty folder on it)."""

    def put(self, disk: Disk, path: Path, *parts: bytes) -> None:
        handle = disk.open(path)
        for part in parts:
            disk.write(handle, part)
        disk.fsync(handle)
        disk.close(handle)

    def test_writes_append_also_after_opening_again(self, disk: Disk, folder: Path) -> None:
        self.put(disk, folder / "a", b"one", b"", b"two")
        self.put(disk, folder / "a", b"three")
        assert disk.read(folder / "a") == b"onetwothree"

    def test_a_read_may_start_anywhere_and_be_short(self, disk: Disk, folder: Path) -> None:
        self.put(disk, folder / "a", b"0123456789")
        assert disk.read(folder / "a", 8) == b"89"
        assert disk.read(folder / "a", 2, 3) == b"234"
        assert disk.read(folder / "a", 50) == b""
        assert disk.read(folder / "none") is None
        assert disk.read(folder / "none/none") is None

    def test_a_file_is_cut_and_then_appended_to(self, disk: Disk, folder: Path) -> None:
        self.put(disk, folder / "a", b"0123456789")
        handle = disk.open(folder / "a")
        disk.truncate(handle, 4)
        disk.write(handle, b"x")
        disk.close(handle)
        assert disk.read(folder / "a") == b"0123x"

    def test_a_rename_replaces(self, disk: Disk, folder: Path) -> None:
        self.put(disk, folder / "a", b"new")
        self.put(disk, folder / "b", b"old")
        disk.rename(folder / "a", folder / "b")
        disk.fsync_dir(folder)
        assert disk.names(folder) == ("b",)
        assert disk.read(folder / "b") == b"new"

    def test_names_are_sorted_and_a_missing_folder_has_none(self, disk: Disk, folder: Path) -> None:
        for name in ("b", "a", "c"):
            self.put(disk, folder / name, b"")
        disk.mkdir(folder / "d")
        disk.mkdir(folder / "d")
        assert disk.names(folder) == ("a", "b", "c", "d")
        assert disk.names(folder / "none") == ()
        assert [disk.exists(folder / name) for name in ("a", "d", "none")] == [True, True, False]
        disk.unlink(folder / "a")
        assert disk.names(folder) == ("b", "c", "d")

    def test_what_cannot_be_done_is_an_oserror(self, disk: Disk, folder: Path) -> None:
        with pytest.raises(FileNotFoundError):
            disk.unlink(folder / "none")
        with pytest.raises(FileNotFoundError):
            disk.open(folder / "none/a")
        with pytest.raises(FileNotFoundError):
            disk.fsync_dir(folder / "none")

    def test_an_atomic_write_leaves_the_new_bytes_and_nothing_else(self, disk: Disk, folder: Path) -> None:
        atomic_write(disk, folder / "a", b"1")
        atomic_write(disk, folder / "a", b"22")
        assert disk.names(folder) == ("a",)
        assert disk.read(folder / "a") == b"22"

    def test_temporaries_are_removed_and_nothing_else(self, disk: Disk, folder: Path) -> None:
        for name in (".tmp-1-a", "a", ".reserve"):
            self.put(disk, folder / name, b"")
        remove_temporaries(disk, folder)
        assert disk.names(folder) == (".reserve", "a")
