"""Who is alive: boot id, pid namespace, start times, locks, and the processes that belong to an attempt. Knows no attempt's content.

A pid alone proves nothing: pids are reused, boots change, containers count anew. So a process is named by pid, start
time, boot id and pid namespace together; a foreign namespace is `unknown`, never dead.
"""

from __future__ import annotations

import fcntl
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


_boot: str | None = None


def boot_id() -> str:
    """The kernel's id of this boot; empty where there is none."""
    global _boot
    if _boot is None:
        try:
            with open("/proc/sys/kernel/random/boot_id", "rb", buffering=0) as file:
                _boot = file.read(64).decode("ascii").strip()
        except OSError:
            _boot = ""
    return _boot


def pid_namespace() -> str:
    """The pid namespace of this process, such as `pid:[4026531836]`."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _stat_fields(pid: int) -> list[bytes] | None:
    try:
        descriptor = os.open("/proc/%d/stat" % pid, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = os.read(descriptor, 4096)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return data[data.rfind(b")") + 2 :].split()


def start_time(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; None where it is gone or a zombie."""
    fields = _stat_fields(pid)
    if not fields or fields[0] in (b"Z", b"X"):
        return None
    return int(fields[19])


def identity(pid: int) -> dict[str, Any]:
    """What names a process of this machine for as long as its attempt folder exists."""
    return {"pid": pid, "start": start_time(pid), "boot": boot_id(), "ns": pid_namespace()}


def same_process(record: Mapping[str, Any]) -> bool:
    """True when the process named by `record` lives; the caller has compared boot and namespace."""
    start = start_time(int(record["pid"]))
    return start is not None and start == record["start"]


def lock_is_held(path: str) -> bool:
    """True when somebody holds the flock of a file; the test itself disturbs no holder."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(descriptor)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def members(record: Mapping[str, Any], folder: str) -> list[int]:
    """The living processes of an attempt: its supervisor, its session, and whatever carries its ALBOR_ATTEMPT.

    A session's number is not given out again while one process is in it; a leader with another start time is a stranger.
    """
    leader = int(record["pid"])
    leader_start = start_time(leader)
    session_is_ours = leader_start is None or leader_start == record["start"]
    mark = b"\0ALBOR_ATTEMPT=" + os.fsencode(folder) + b"\0"
    own = os.getpid()
    found = []
    for pid in _pids():
        fields = _stat_fields(pid)
        if pid == own or not fields or fields[0] in (b"Z", b"X"):
            continue
        in_session = session_is_ours and leader in (pid, int(fields[3]))
        if in_session or mark in b"\0" + _environment(pid) + b"\0":
            found.append(pid)
    return found


def _environment(pid: int) -> bytes:
    try:
        with open("/proc/%d/environ" % pid, "rb") as file:
            return file.read()
    except OSError:
        return b""


def children(pid: int) -> list[int]:
    """The direct children of a process, zombies included."""
    found: list[int] = []
    try:
        for task in os.listdir("/proc/%d/task" % pid):
            with open("/proc/%d/task/%s/children" % (pid, task), "rb") as file:
                found += [int(word) for word in file.read().split()]
        return found
    except OSError:
        pass
    for other in _pids():
        fields = _stat_fields(other)
        if fields and int(fields[1]) == pid:
            found.append(other)
    return found


NETWORK_TYPES = frozenset(
    ["nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "glusterfs", "beegfs", "gpfs", "orangefs"]
    + ["fuse." + name for name in ("sshfs", "s3fs", "rclone", "glusterfs", "ceph", "gcsfuse", "juicefs")]
)


def _mounts() -> list[tuple[int, str]]:
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            lines = file.read().decode("utf-8", "surrogateescape").split("\n")
    except OSError:
        return []
    found = []
    for line in lines:
        head, dash, tail = line.partition(" - ")
        if dash:
            major, _colon, minor = head.split(" ")[2].partition(":")
            found.append((os.makedev(int(major), int(minor)), tail.split(" ")[0]))
    return found


def network_devices() -> frozenset[int]:
    """The device numbers of mounted network file systems, where locks and stamps prove nothing."""
    return frozenset(device for device, kind in _mounts() if kind in NETWORK_TYPES)


def is_network(path: str) -> bool:
    """True when a path lies on a network file system."""
    return os.stat(path).st_dev in network_devices()
