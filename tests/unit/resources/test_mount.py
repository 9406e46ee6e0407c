"""What is done to a mount that is there: over itself, anew, or not at all."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from albor_pipeline.manifest.load import load
from albor_pipeline.resources.base import Instance
from albor_pipeline.resources.registry import convergent

KIND = convergent("mount")
TABLES = "fstab\n{}\n\nmountinfo\n95 1 8:17 / /data {} - {} {} rw\n"


def declared(tmp_path: Path, **fields: Any) -> Instance:
    """The mount `it` at /data with these fields."""
    words = "".join(f", {name}: {value!r}" for name, value in fields.items())
    (tmp_path / "m.yaml").write_text(f"version: '1.0'\nname: t\nresources: {{it: {{type: mount, path: /data{words}}}}}\n")
    manifest = load(tmp_path / "m.yaml")
    return Instance(manifest.resources["it"], manifest.machines["localhost"], tmp_path)


def script(tmp_path: Path, line: str, live: tuple[str, str, str], **fields: Any) -> str:
    """What is done where fstab has this line and the kernel shows these flags, type and source."""
    one = declared(tmp_path, **fields)
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


def test_another_image_file_is_mounted_in_place_of_the_one_before(tmp_path: Path) -> None:
    image = tmp_path / "new.img"
    fstab, live = "/old.img /data ext4 loop 0 0", "fstab\n{}\n\nmountinfo\n95 1 7:0 / /data rw - ext4 /dev/loop0 rw\n"
    one = declared(tmp_path, source=str(image), fstype="ext4", options="loop")
    answers = [{"exit": 0, "stdout": live.format(fstab)}, {"exit": 0, "stdout": f"path /data\nsource {image}\nfile\n"}]
    seen = KIND.observe(one, answers)
    assert seen.values["state"] == "mounted from another file at /dev/loop0"
    assert "umount --" in KIND.converge(one, seen)[0]["script"]
    answers[1]["stdout"] += "loop:/dev/loop0\n"
    assert KIND.observe(one, answers).values["state"] == "mounted"


def test_the_loop_devices_of_an_image_file_are_told_by_the_file_behind_them(tmp_path: Path) -> None:
    image, other = tmp_path / "a.img", tmp_path / "b.img"
    for number, file in enumerate((image, other)):
        file.touch()
        backing = tmp_path / f"block/loop{number}/loop/backing_file"
        backing.parent.mkdir(parents=True)
        backing.write_text(f"{file}\n")
    look = KIND.probes(declared(tmp_path, source=str(image)))[1]["script"].replace("/sys/block", str(tmp_path / "block"))
    told = subprocess.run(["/bin/sh", "-c", look], text=True, capture_output=True, check=True).stdout
    assert [line for line in told.splitlines() if line.startswith("loop:")] == ["loop:/dev/loop0"]


FOREIGN = "/dev/sda1 / ext4 defaults 0 1\nUUID=aa /home ext4 defaults 0 2\n"


@pytest.mark.parametrize("mark", ["# albor-pipeline it", "# albor-pipeline it: /old"])
@pytest.mark.parametrize("is_wanted", [True, False])
def test_a_mark_whose_line_is_gone_claims_no_line_of_others(tmp_path: Path, mark: str, is_wanted: bool) -> None:
    table = tmp_path / "fstab"
    root, home = FOREIGN.splitlines()
    table.write_text(f"{mark}\n{home}\n{mark}\n{root}\nodd\n# albor-pipeline it: /old\nscratch /old tmpfs noexec 0 0\n")
    one = declared(tmp_path, source="scratch", fstype="tmpfs", options="noexec")
    answers = [
        {"exit": 0, "stdout": f"fstab\n{table.read_text()}\nmountinfo\n95 1 0:9 / /data rw,noexec - tmpfs scratch rw\n"},
        {"exit": 0, "stdout": "path /data\n"},
    ]
    seen = KIND.observe(one, answers)
    assert seen.values["path"] == "/old"
    text = (KIND.converge(one, seen) if is_wanted else KIND.remove(one))[0]["script"].replace("/etc/fstab", str(table))
    for real, here in (("/run/systemd", "/nowhere"), ("mount -o", ": -o"), ("$(id -u)", "0")):
        text = text.replace(real, here)
    subprocess.run(["/bin/sh", "-euc", text], check=True)
    ours = "# albor-pipeline it: /data\nscratch /data tmpfs noexec 0 0\n" if is_wanted else ""
    assert table.read_text() == f"{home}\n{root}\nodd\n{ours}"
