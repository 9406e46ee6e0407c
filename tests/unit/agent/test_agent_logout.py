"""Where systemd clears a session at logout, attempts are started outside of it; elsewhere nothing is done."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from albor_pipeline.agent import logout
from albor_pipeline.agent.starts import Spawning
from albor_pipeline.transport.bundle import ensure_bundle

SESSION = "0::/user.slice/user-1000.slice/session-3.scope\n"


def machine(
    root: Path, cgroup: str = SESSION, conf: str = "[Login]\nKillUserProcesses=yes\n", systemd: bool = True
) -> str:
    for folder in ("proc/self", "etc/systemd/logind.conf.d", "var/lib/systemd/linger"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    if systemd:
        (root / "run/systemd/system").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    (root / "etc/systemd/logind.conf").write_text(conf)
    return str(root)


def test_a_logout_kills_only_in_a_session_that_logind_clears(tmp_path: Path) -> None:
    assert logout.logout_kills(machine(tmp_path / "a"))
    assert not logout.logout_kills(machine(tmp_path / "b", cgroup="0::/user.slice/user-0.slice/user@0.service\n"))
    assert not logout.logout_kills(machine(tmp_path / "c", conf="#KillUserProcesses=yes\n"))
    assert not logout.logout_kills(machine(tmp_path / "d", systemd=False))
    (tmp_path / "a/etc/systemd/logind.conf.d/50-keep.conf").write_text("[Login]\nKillUserProcesses = no\n")
    assert not logout.logout_kills(str(tmp_path / "a"))


def test_the_way_out_is_a_scope_of_root_or_of_a_user_who_lingers(tmp_path: Path) -> None:
    root = machine(tmp_path)
    assert logout.scope_words("ann", True, root)[:2] == ["systemd-run", "--scope"]
    assert logout.scope_words("ann", False, root) == []
    (tmp_path / "var/lib/systemd/linger/ann").touch()
    assert logout.scope_words("ann", False, root)[:3] == ["systemd-run", "--user", "--scope"]


@pytest.mark.parametrize("there", [True, False])
def test_the_spawner_is_started_in_the_scope_and_without_one_where_that_program_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    if there:
        (tmp_path / "systemd-run").write_text(
            '#!/bin/sh\necho "$@" > "$0.called"\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n'
        )
        (tmp_path / "systemd-run").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin" if there else str(tmp_path))
    words = ["-I", "-S", str(ensure_bundle()), "--workdir", str(tmp_path), "--machine", "box"]
    monkeypatch.setattr(sys, "orig_argv", ["python", *words])
    request_read, request_write = os.pipe()
    reply_read, reply_write = os.pipe()
    os.close(request_read)
    os.close(reply_write)
    spawning = Spawning(request_write, reply_read)
    spawning.scope = ["systemd-run", "--scope", "--"]
    spawning.respawn()
    os.set_blocking(spawning.replies, True)
    os.close(spawning.requests)
    assert spawning.read() is None, "the spawner lived, saw the end of requests and went"
    assert (tmp_path / "systemd-run.called").exists() is there
    os.close(spawning.replies)
