"""What is done to a mount that is there: over itself, anew, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from albor_pipeline.manifest.load import load
from albor_pipeline.resources.base import Instance
from albor_pipeline.resources.registry import convergent

KIND = convergent("mount")
TABLES = "fstab\n{}\n\nmountinfo\n95 1 8:17 / /data {} - {} {} rw\n"


def script(tmp_path: Path, line: str, live: tuple[str, str, str], **fields: Any) -> str:
    """What is done where fstab has this line and the kernel shows these flags, type and source."""
    declared = "".join(f", {name}: {value!r}" for name, value in fields.items())
    (tmp_path / "m.yaml").write_text(f"version: '1.0'\nname: t\nresources: {{it: {{type: mount, path: /data{declared}}}}}\n")
    manifest = load(tmp_path / "m.yaml")
    one = Instance(manifest.resources["it"], manifest.machines["localhost"], tmp_path)
    tables = TABLES.format(line, *live)
    seen = KIND.observe(one, [{"exit": 0, "stdout": tables}, {"exit": 0, "stdout": "path /data\n"}])
    return "".join(operation["script"] for operation in KIND.converge(one, seen))


@pytest.mark.parametrize(
    ("fstype", "live", "is_remounted"),
    [("ext4", "ext4", True), ("nfs", "nfs4", False), ("cifs", "cifs", False), ("fuse.sshfs", "fuse.sshfs", False)],
)
def test_new_options_are_tried_on_the_mount_where_that_has_an_effect(tmp_path: Path, fstype: str, live: str, is_remounted: bool) -> None:
    text = script(tmp_path, f"nas:/e /data {fstype} rw 0 0", ("rw", live, "nas:/e"), source="nas:/e", fstype=fstype, options="ro")
    assert ("remount,$1" in text, "umount --" in text) == (is_remounted, not is_remounted)


def test_another_source_is_mounted_anew_where_fstab_says_that_the_one_before_is_ours_and_is_an_error_elsewhere(tmp_path: Path) -> None:
    old = ("rw", "nfs4", "old:/e")
    assert "umount --" in script(tmp_path, "old:/e /data nfs rw 0 0", old, source="nas:/e", fstype="nfs", options="rw")
    text = script(tmp_path, "", old, source="nas:/e", fstype="nfs", options="rw")
    assert "umount --" not in text and "set -- /data old:/e nas:/e\n" in text and "exit 1" in text


def test_what_was_mounted_by_hand_gets_its_options_and_its_line(tmp_path: Path) -> None:
    text = script(tmp_path, "", ("rw,noexec", "tmpfs", "scratch"), source="scratch", fstype="tmpfs", options="noexec")
    assert "umount --" not in text and "remount,$1" in text and "'scratch /data tmpfs noexec'" in text


def test_a_doubled_line_goes_and_the_mount_stays(tmp_path: Path) -> None:
    line, live = "scratch /data tmpfs noexec 0 0", ("rw,noexec", "tmpfs", "scratch")
    assert script(tmp_path, line, live, source="scratch", fstype="tmpfs", options="noexec") == ""
    text = script(tmp_path, f"{line}\n{line}", live, source="scratch", fstype="tmpfs", options="noexec")
    assert "mktemp" in text and "umount --" not in text and "remount" not in text
