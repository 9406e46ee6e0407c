"""What is mounted below a folder that is to go: nothing of it is removed. In a namespace of mounts of the test's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ALONE = ("unshare", "--user", "--map-root-user", "--mount")
TAKES_AWAY = """
import sys
from albor_pipeline.agent import files
try:
    files.put(sys.argv[1], {"type": "absent"}, iter(()))
except files.FileError as error:
    print(error.code, error.message)
"""


def can_mount() -> bool:
    """Whether this account may have a namespace with mounts of its own here."""
    try:
        done = subprocess.run([*ALONE, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs mounts in a namespace of its own")
@pytest.mark.parametrize("name", ["data", "a b\tc", "back\\slash", "new\nline"])
@pytest.mark.parametrize("how", ["mount -t tmpfs none", "mount --bind other"])
def test_a_folder_with_a_mount_below_it_stays_as_a_whole(tmp_path: Path, name: str, how: str) -> None:
    mounted = tmp_path / "srv/in" / name
    mounted.mkdir(parents=True)
    (tmp_path / "srv/first").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/theirs").touch()
    script = f'{how} "$1" && touch "$1/data" && "$2" -c "$3" "$4" && [ -e "$1/data" ] && umount "$1" && "$2" -c "$3" "$4"'
    words = [str(mounted), sys.executable, TAKES_AWAY, str(tmp_path / "srv")]
    done = subprocess.run([*ALONE, "sh", "-c", script, "sh", *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    assert done.stdout == f"refused {tmp_path}/srv is not removed: {mounted} is mounted below it\n"
    assert not (tmp_path / "srv").exists(), "once nothing is mounted there it goes"
    assert (tmp_path / "other/theirs").exists()


@pytest.mark.skipif(not can_mount(), reason="needs mounts in a namespace of its own")
def test_a_mount_itself_and_one_behind_a_link_are_no_part_of_what_goes(tmp_path: Path) -> None:
    for name in ("point", "srv"):
        (tmp_path / name).mkdir()
    (tmp_path / "srv/link").symlink_to("../point")
    script = 'mount -t tmpfs none "$1" && touch "$1/data" && "$2" -c "$3" "$4" && "$2" -c "$3" "$1" && [ -e "$1/data" ]'
    words = [str(tmp_path / "point"), sys.executable, TAKES_AWAY, str(tmp_path / "srv")]
    done = subprocess.run([*ALONE, "sh", "-c", script, "sh", *words], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    assert done.stdout == f"refused {tmp_path}/point is not removed: it is a root, a mount or a home\n"
    assert not (tmp_path / "srv").exists()
