"""A second way to a machine, for much data: the system's `ssh` with the agent at its end, which encrypts in C. Knows no verb.

It goes where the first one goes and believes the same files of known hosts: no configuration is read again, every setting
that counted there is given here word by word. Nobody is asked for anything.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from albor_pipeline.model.manifest import Machine
from albor_pipeline.transport import arrival
from albor_pipeline.transport.client import AgentClient
from albor_pipeline.transport.faults import Unusable
from albor_pipeline.transport.process import ProcessChannel
from albor_pipeline.transport.ssh import ANSWER_S, QUIET_S
from albor_pipeline.transport.sshconfig import Hop, route

PROGRAM = "ssh"
FIRST_REQUEST = 1 << 31  # so that both connections' requests of one machine are told apart by their numbers
CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr", "aes128-ctr")
FIXED = {
    "BatchMode": "yes",
    "CheckHostIP": "no",
    "Ciphers": ",".join(CIPHERS),  # the first is 1.4 times as fast as what `ssh` takes first
    "ClearAllForwardings": "yes",
    "ControlMaster": "no",
    "ControlPath": "none",
    "ForwardAgent": "no",
    "HostKeyAlgorithms": "-*-cert-v01@openssh.com",
    "LogLevel": "ERROR",
    "PreferredAuthentications": "publickey",
    "StrictHostKeyChecking": "yes",
    "UpdateHostKeys": "no",
    "VerifyHostKeyDNS": "no",
}


def start(machine: Machine, root: str, workdir: str, lineage: str) -> AgentClient:
    """A client of a second agent there, which may still be on its way; for arguments see SshTransport. Raises Unusable."""
    return reach(login(route(machine, root)), machine.name, machine.workdir or workdir, lineage)


def login(hops: Sequence[Hop]) -> list[str]:
    """The command line that logs in at the end of a way. Raises Unusable."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise Unusable(f"the program {PROGRAM} is not installed here")
    return words(program, hops)


def reach(login: Sequence[str], name: str, workdir: str, lineage: str) -> AgentClient:
    """The agent of a machine that it was put on before, by a command line that logs in there. Raises Unusable."""
    try:
        command = arrival.command(workdir, lineage, name, again=True)
        channel = ProcessChannel([*login, command], hang_up_wait_s=0.0)
    except OSError as error:
        raise Unusable(f"{login[0]} cannot be started: {error}") from None
    return AgentClient(channel, name, first=FIRST_REQUEST)


def words(program: str, hops: Sequence[Hop]) -> list[str]:
    """The command line of a login at the last of these hops, through the others; what is to be run there is to be put after it."""
    *before, last = hops
    options = {
        **FIXED,
        "ConnectTimeout": f"{max(1, round(last.connect_s))}",
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": last.key_name,
        "IdentitiesOnly": "yes" if last.only_these_keys else "no",
        "ServerAliveCountMax": f"{max(1, round(ANSWER_S / QUIET_S))}",
        "ServerAliveInterval": f"{max(1, round(QUIET_S))}",
        "UserKnownHostsFile": " ".join(_quoted(str(Path(file).expanduser())) for file in last.known_hosts),
    }
    if before:
        inner = shlex.join([*words(program, before)[:-2], "-W", f"[{last.host}]:{last.port}", "--", before[-1].host])
        options["ProxyCommand"] = _plain(inner)
    elif last.proxy_command is not None:
        options["ProxyCommand"] = _plain(last.proxy_command)
    settings = [*options.items(), *(("IdentityFile", _quoted(key)) for key in last.keys)]
    given = [word for name, value in settings for word in ("-o", f"{name}={value}")]
    return [program, "-F", "/dev/null", "-T", *given, "-l", last.user, "-p", str(last.port), "--", last.host]


def _plain(text: str) -> str:
    """A text in which `ssh` replaces nothing."""
    return text.replace("%", "%%")


def _quoted(path: str) -> str:
    return f'"{_plain(path)}"'
