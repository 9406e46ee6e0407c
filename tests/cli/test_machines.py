"""Tasks on other machines, over SSH to a real sshd: they run there, obstacles are said, attempts outlive connections."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from sshd import Box, Key, Network

from albor_pipeline.run.fleet import Fleet
from cli.builder import HEAD, Project, Said, put, there

LADDER = """
words:
  type: task
  machine: lambda
  command: printf 'two\\none\\n' | sort > words.txt
  outputs: [words.txt]
count:
  type: task
  machine: lambda
  command: wc -l < words.txt > count.txt
  inputs: [words]
  outputs: [count.txt]
after:
  type: task
  machine: intel
  command: echo "$ALBOR_MACHINE" > name.txt
  depends_on: [count]
  outputs: [name.txt]
"""
SLOW = """
slow:
  type: task
  machine: lambda
  command: echo start >> starts; echo begun; until [ -e go ]; do sleep 0.05; done; echo end > out.txt
  outputs: [out.txt]
"""
PLAIN = "t: {type: task, machine: lambda, command: 'echo done > out.txt', outputs: [out.txt]}"


def flat(text: str) -> str:
    """Without line ends and indents, so that a sentence can be looked for."""
    return " ".join(text.split())


def unreachable(project: Project, network: Network, *words: str) -> Said:
    """Plan one task on lambda; exit 6, the step unknown, and each of these texts in what is said."""
    project.manifest(PLAIN, HEAD)
    said = project.run("plan")
    assert said.exit == 6, said
    assert "? t task lambda unknown" in flat(said.out)
    for word in words:
        assert word in flat(said.err), said.err
    return said


def test_a_ladder_runs_on_two_machines_and_is_known_afterwards(project: Project, network: Network) -> None:
    one, two = network.add("lambda"), network.add("intel")
    project.manifest(LADDER, HEAD)
    said = project.run("apply")
    assert said.exit == 0, said
    assert there(one, "count.txt").read_text() == "2\n" and there(two, "name.txt").read_text() == "intel\n"
    assert not (project.root / "words.txt").exists()
    project.says("apply", out="Nothing to do: 3 unchanged.")
    there(one, "words.txt").write_text("x")
    assert "words.txt modified" in project.run("plan").out
    project.says("ps", out="Nothing is running.")
    assert "3 converged" in project.run("status").out
    assert project.run("drift").exit == 4


def test_the_folder_and_the_environment_that_a_machine_declares_count(project: Project, network: Network) -> None:
    box = network.add("lambda")
    head = "machines:\n  lambda: {addr: lambda, workdir: ~/elsewhere, env: {SAID: hello}}\n"
    project.manifest("t: {type: task, machine: lambda, command: 'echo $SAID > out.txt', outputs: [out.txt]}", head).does("apply")
    assert (box.home / "elsewhere" / "out.txt").read_text() == "hello\n"


def test_fields_of_the_manifest_reach_a_machine_without_any_configuration(project: Project, network: Network) -> None:
    box = network.add("lambda", known=False)
    network.config.write_text("")
    (project.root / "hosts").write_text(f"{box.known}\n")
    fields = f"addr: 127.0.0.1, transport: ssh, port: {box.port}, ssh_key: {network.key.path}, known_hosts: hosts"
    project.manifest(PLAIN, f"machines:\n  lambda: {{{fields}}}\n").does("apply")
    assert there(box, "out.txt").read_text() == "done\n"


@pytest.mark.effect("any.machine")
def test_files_are_put_on_another_machine(project: Project, network: Network) -> None:
    box = network.add("lambda")
    project.file("settings.txt", "a\n")
    project.manifest("f: {type: file, machine: lambda, path: conf/settings.txt, source: settings.txt}", HEAD).does("apply")
    assert there(box, "conf/settings.txt").read_text() == "a\n"


def test_an_unknown_host_key_is_shown_with_the_command_that_accepts_it(project: Project, network: Network) -> None:
    box = network.add("lambda", known=False)
    said = unreachable(project, network, f"the host key of {box.key_name} is not known: ssh-ed25519 {box.host_key.fingerprint}")
    assert not network.known_hosts.exists() and not list(box.home.iterdir())
    (command,) = [line.partition("accept it: ")[2] for line in said.err.splitlines() if "accept it: " in line]
    subprocess.run(["sh", "-c", command], check=True)
    project.does("apply")


def test_a_changed_host_key_is_refused_with_both_fingerprints(project: Project, network: Network) -> None:
    box = network.add("lambda", known=False)
    other = Key.make(network.folder / "other")
    network.know(f"{box.key_name} {other.public}")
    said = unreachable(project, network, f"the host key of {box.key_name} changed", other.fingerprint, box.host_key.fingerprint)
    assert f"ssh-keygen -f {network.known_hosts} -R '{box.key_name}'" in said.err
    assert network.known_hosts.read_text() == f"{box.key_name} {other.public}\n" and not list(box.home.iterdir())


def test_a_revoked_host_key_is_refused(project: Project, network: Network) -> None:
    box = network.add("lambda")
    network.know(f"@revoked * {box.host_key.public}")
    unreachable(project, network, "is marked as revoked")


def test_a_key_that_the_machine_does_not_take_is_named(project: Project, network: Network) -> None:
    box = network.add("lambda")
    (box.folder / "authorized_keys").write_text("")
    unreachable(project, network, f"takes none of our keys (tried {network.key.path})", f"ssh-copy-id -i KEY.pub -p {box.port}")


def test_a_key_that_is_not_there_is_named(project: Project, network: Network) -> None:
    network.add("lambda")
    project.manifest(PLAIN, "machines:\n  lambda: {addr: lambda, ssh_key: keys/none}\n")
    said = project.run("plan")
    assert said.exit == 6 and "its `ssh_key` keys/none is not there" in said.err


def test_a_machine_without_python_says_what_to_install(project: Project, network: Network) -> None:
    tools = network.folder / "tools"
    tools.mkdir()
    for name in ("sh", "grep", "bash"):
        (tools / name).symlink_to(f"/bin/{name}")
    network.add("lambda", path=str(tools))
    unreachable(project, network, "it has no Python 3.9 or newer", "install")
    old = tools / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.6.8\nexit 1\n')
    old.chmod(0o755)
    unreachable(project, network, "it has no Python 3.9 or newer; its python3 is Python 3.6.8")


def test_a_shell_that_prints_and_reads_its_own_files_does_no_harm(project: Project, network: Network) -> None:
    box = network.add("lambda")
    for name in (".bashrc", ".profile", ".bash_profile", ".zshenv"):
        (box.home / name).write_text("echo welcome; echo albor-agent here; printf 'no line end' ; echo oops >&2\n")
    project.manifest(PLAIN, HEAD).does("apply")


def test_a_machine_that_is_off_leaves_the_others_planned(project: Project, network: Network) -> None:
    network.add("lambda")
    network.add("intel").stop()
    project.manifest(LADDER, HEAD)
    said = project.run("plan")
    assert said.exit == 6
    assert "+ words task lambda run" in flat(said.out) and "? after task intel unknown" in flat(said.out)
    assert "unknown: intel does not answer (127.0.0.1:" in said.out and "refuses connections" in said.out
    said = project.run("apply")
    assert said.exit == 6 and "2 done" in said.out, said


def test_a_machine_that_is_still_starting_is_tried_as_often_as_the_policy_says(project: Project, network: Network) -> None:
    box = network.add("lambda")
    box.stop()
    project.manifest(PLAIN, HEAD)
    assert project.run("plan").exit == 6
    project.manifest(PLAIN, f"{HEAD}policy: {{ssh_retries: 4}}\n")
    process = project.start("plan")
    time.sleep(1.5)  # past the first attempt; there are three more, a second apart
    assert process.poll() is None
    box.start()
    assert project.end(process).exit == 0


def test_provisioning_leaves_a_machine_that_is_off_for_later(project: Project, network: Network) -> None:
    network.add("lambda")
    network.add("intel").stop()
    project.manifest("conf: {type: file, machine: [lambda, intel], path: conf, content: x}", HEAD)
    said = project.run("provision", "plan")
    assert said.exit == 6 and "unknown: intel does not answer (127.0.0.1:" in said.out and "lambda: answers" in said.err, said
    said = project.run("provision", "apply")
    assert said.exit == 6 and "1 created" in said.out, said
    project.edit("path: conf, content: x", "path: m, source: /nowhere/m, name: m").edit("type: file", "type: model")
    said = project.run("provision", "plan")
    assert said.exit == 1 and "there is no /nowhere/m on this machine to take it from" in said.err, said


def test_a_machine_is_reached_through_another(project: Project, network: Network) -> None:
    gate, box = network.add("gate"), network.add("lambda")
    network.extra["lambda"] = "  ProxyJump gate"
    network.write()
    project.manifest(PLAIN, HEAD).does("apply")
    assert there(box, "out.txt").exists()
    network.extra.clear()
    network.write()
    there(box, "out.txt").unlink()
    project.manifest(PLAIN, "machines:\n  lambda: {addr: lambda, jump: gate}\n").does("apply", "--yes")
    assert (gate.folder / "log").read_text().count("Accepted publickey") == 2
    gate.stop()
    said = project.run("plan")
    assert said.exit == 6 and "the jump host 127.0.0.1:" in said.err


def test_an_unknown_key_of_a_jump_host_is_not_taken_either(project: Project, network: Network) -> None:
    gate = network.add("gate", known=False)
    network.add("lambda")
    network.extra["lambda"] = "  ProxyJump gate"
    network.write()
    unreachable(project, network, f"the jump host 127.0.0.1:{gate.port}: the host key of {gate.key_name} is not known")


def begin(project: Project, box: Box) -> subprocess.Popen[str]:
    """Start the slow task on lambda and wait until it runs."""
    project.manifest(SLOW, HEAD)
    process = project.start("apply")
    project.wait(there(box, "starts").exists)
    return process


def go_on(project: Project, box: Box) -> None:
    """The same command again attaches to the attempt that lived on, which is the only one there ever was."""
    again = project.start("apply")
    assert again.stderr is not None and any("attached" in line for line in again.stderr)
    put(box, "go", "")
    said = project.end(again)
    assert said.exit == 0 and "slow  done" in said.err, said
    assert there(box, "starts").read_text() == "start\n" and there(box, "out.txt").read_text() == "end\n"
    project.says("apply", out="Nothing to do: 1 unchanged.")


def test_a_killed_controller_finds_its_attempt_again(project: Project, network: Network) -> None:
    box = network.add("lambda")
    process = begin(project, box)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert "slow" in project.run("ps").out and "running" in project.run("status").out
    assert "begun" in project.run("logs", "slow").out
    go_on(project, box)


def test_a_session_that_is_killed_holds_the_step_and_leaves_the_attempt_alive(project: Project, network: Network) -> None:
    box = network.add("lambda")
    process = begin(project, box)
    box.cut()
    said = project.end(process)
    assert "Not everything could be done: 1 unreachable." in said.out
    assert said.exit == 6 and "lambda does not answer: the connection was cut; the attempt goes on by itself" in said.err, said
    go_on(project, box)


def test_an_agent_that_is_killed_is_noticed_at_once(project: Project, network: Network) -> None:
    box = network.add("lambda")
    process = begin(project, box)
    os.kill(box.programs()[0], signal.SIGKILL)
    began = time.monotonic()
    assert project.end(process).exit == 6 and time.monotonic() - began < 5
    go_on(project, box)


def test_a_machine_that_is_lost_between_two_steps_holds_the_second(
    project: Project, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its inputs are looked at again when the step is ready; that is when the connection is found to be cut."""
    box = network.add("lambda")
    network.add("intel")
    probe = Fleet.probe

    def cut_first(fleet: Fleet, machine: str, items: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
        if (there(box) / "words.txt").exists():
            box.cut()
        return probe(fleet, machine, items)

    monkeypatch.setattr(Fleet, "probe", cut_first)
    project.manifest(LADDER, HEAD)
    said = project.run("apply")
    assert said.exit == 6 and "count  unknown" in said.err, said
    monkeypatch.undo()
    monkeypatch.setenv("ALBOR_SSH_CONFIG", str(network.config))
    monkeypatch.chdir(project.root)
    assert "2 done, 1 unchanged" in project.run("apply").out


def test_machines_are_reached_side_by_side(project: Project, network: Network) -> None:
    with ExitStack() as stack:
        lines = []
        for name in ("a", "b", "c", "d"):
            silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            lines += [f"Host {name}", f"  HostName 127.0.0.1\n  Port {silent.getsockname()[1]}\n  ConnectTimeout 2"]
        network.config.write_text("\n".join([*lines, ""]))
        head = "machines: {a: {addr: a}, b: {addr: b}, c: {addr: c}, d: {addr: d}}\n"
        project.manifest("t: {type: task, machine: [a, b, c, d], command: 'true'}", head)
        began = time.monotonic()
        said = project.run("plan")
        assert said.exit == 6 and time.monotonic() - began < 6 and said.err.count("no SSH server answered in 2 s") == 4


def test_a_task_on_another_machine_can_be_cancelled(project: Project, network: Network) -> None:
    box = network.add("lambda")
    process = begin(project, box)
    assert "ended (cancelled)" in project.run("cancel", "slow").out
    assert project.end(process).exit == 3
    assert not there(box, "out.txt").exists()


def test_an_environment_is_made_on_its_machine_and_its_tasks_run_in_it(project: Project, network: Network) -> None:
    box = network.add("lambda")
    project.manifest(
        """
        env: {type: python_env, machine: lambda}
        inside: {type: task, machine: lambda, python: env, command: python -c 'import sys; print(sys.prefix)' > out.txt, outputs: [out.txt]}
        """,
        HEAD,
    )
    said = project.run("apply")
    assert said.exit == 0, said
    assert there(box, "out.txt").read_text() == f"{there(box, '.albor/env/env')}\n"
    project.says("apply", out="Nothing to do: 2 unchanged.")
    there(box, ".albor/env/env/albor-lock.json").unlink()
    assert project.run("drift").exit == 4


@pytest.mark.skipif(shutil.which("ssh") is None, reason="ssh is not installed: apt-get install openssh-client")
def test_a_shell_is_in_the_folder_of_the_tasks_and_its_code_is_ours(project: Project, network: Network) -> None:
    box = network.add("lambda")
    put(box, "note.txt", "here\n")
    project.manifest(PLAIN, f"{HEAD}  here: {{addr: localhost}}\n")
    assert project.end(project.start("ssh", "lambda", "cat", "note.txt")) == Said("here\n", "", 0)
    assert project.end(project.start("ssh", "lambda", "sh", "-c", "echo 'a  b'; exit 7")) == Said("a  b\n", "", 7)
    assert project.end(project.start("ssh", "here", "--", "pwd")) == Said("ROOT\n", "", 0)
    assert "declared machines: here, intel, lambda" in project.run("ssh", "none").err


def test_a_shell_goes_the_way_that_the_manifest_says(project: Project, network: Network) -> None:
    box = network.add("lambda", known=False)
    network.config.write_text("")
    (project.root / "hosts").write_text(f"{box.known}\n")
    fields = f"addr: 127.0.0.1, transport: ssh, port: {box.port}, ssh_key: {network.key.path}, known_hosts: hosts, workdir: ~/its place"
    project.manifest(PLAIN, f"machines:\n  lambda: {{{fields}}}\n")
    (box.home / "its place").mkdir()
    said = project.end(project.start("ssh", "lambda", "pwd"))
    assert said.out == f"{box.home}/its place\n", said
    (project.root / "hosts").write_text("")
    assert project.end(project.start("ssh", "lambda", "pwd")).exit == 255


@pytest.mark.parametrize(("policy", "exit", "words"), [("hold", 6, "1 done, 2 held"), ("fail", 3, "1 done, 1 failed, 1 not started")])
def test_the_policy_says_whether_a_machine_that_is_off_fails_or_holds_what_needs_it(
    project: Project, network: Network, policy: str, exit: int, words: str
) -> None:
    network.add("lambda").stop()
    there(network.add("intel"), ".").mkdir(parents=True)
    project.manifest(
        """
        off: {type: task, machine: lambda, command: echo 1 > a, outputs: [a]}
        down: {type: task, machine: lambda, command: echo 2 > b, outputs: [b], depends_on: [off]}
        other: {type: task, machine: intel, command: echo 3 > c, outputs: [c]}
        """,
        f"{HEAD}policy: {{unreachable: {policy}, failure: continue_independent}}\n",
    )
    said = project.run("apply")
    assert said.exit == exit and words in said.out, said
    assert ("FAILED" in said.err) == (policy == "fail") and "off" in said.err
    network.boxes["lambda"].start()
    assert "2 done" in project.run("apply").out
