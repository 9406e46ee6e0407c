"""Which file system a path lies on, by the mount table; on those of NETWORK locks and fsync cannot be trusted. Knows no state."""

from __future__ import annotations

import re
from pathlib import Path

MOUNT_TABLE = Path("/proc/self/mounts")
NETWORK = frozenset(
    [
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "fhgfs",
        "fuse.ceph",
        "fuse.gcsfuse",
        "fuse.glusterfs",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "orangefs",
        "smb3",
        "smbfs",
    ]
)
_OCTAL = re.compile(r"\\([0-7]{3})")


def filesystem_of(path: Path, table: str | None = None) -> str:
    """The file system type of the last mount whose point contains the real `path`; `` where there is no mount table."""
    if table is None:
        try:
            table = MOUNT_TABLE.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return ""
    real, best, found = path.resolve(), -1, ""
    for line in table.splitlines():
        words = line.split(" ")
        if len(words) < 3:
            continue
        point = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), words[1]))
        if real.is_relative_to(point) and len(point.parts) >= best:
            best, found = len(point.parts), words[2]
    return found
