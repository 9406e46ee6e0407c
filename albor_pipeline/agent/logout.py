"""Whether a logout would kill attempts here, and how to start them outside the login session. Starts nothing itself.

systemd ends every process of a session at logout where logind says KillUserProcesses=yes, detached or not. A scope of
root's, or of a user who lingers, is not part of the session.
"""

from __future__ import annotations

import os

from albor_pipeline.agent.layout import read_bytes

LOGIND_FOLDERS = ("usr/lib/systemd", "run/systemd", "etc/systemd")


def logout_kills(root: str = "/") -> bool:
    """True when this process is in a login session that logind clears at logout."""
    if not os.path.isdir(os.path.join(root, "run/systemd/system")):
        return False
    cgroup = (read_bytes(os.path.join(root, "proc/self/cgroup")) or b"").decode("utf-8", "replace")
    return "/session-" in cgroup and _kill_user_processes(root)


def _kill_user_processes(root: str) -> bool:
    found = False
    for folder in LOGIND_FOLDERS:
        base = os.path.join(root, folder, "logind.conf")
        names = [base]
        if os.path.isdir(base + ".d"):
            names += [
                os.path.join(base + ".d", name) for name in sorted(os.listdir(base + ".d")) if name.endswith(".conf")
            ]
        for name in names:
            for line in (read_bytes(name) or b"").decode("utf-8", "replace").split("\n"):
                key, _equals, value = line.partition("=")
                if key.strip() == "KillUserProcesses":
                    found = value.strip().lower() in ("yes", "true", "on", "1")
    return found


def scope_words(user: str, is_root: bool, root: str = "/") -> list[str]:
    """The words before a command that start it outside the session; empty where that is not possible."""
    if is_root:
        return ["systemd-run", "--scope", "--quiet", "--collect", "--"]
    if os.path.exists(os.path.join(root, "var/lib/systemd/linger", user)):
        return ["systemd-run", "--user", "--scope", "--quiet", "--collect", "--"]
    return []
