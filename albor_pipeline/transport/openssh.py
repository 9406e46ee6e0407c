"""A second way to a machine, for much data: the system's `ssh` with the agent at its end, which encrypts in C. Knows no verb.

It goes where the first one goes and believes the same files of known hosts: no configuration is read again, every setting
that counted there is given here word by word. Nobody is asked for anything.
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from albor_pipeline.model.manifest import Machine
from albor_pipeline.transport import arrival
from albor_pipeline.transport.client import AgentClient
from albor_pipeline.transport.faults import Unusable
from albor_pipeline.transport.knownhosts import recorded
from albor_pipeline.transport.process import ProcessChannel
from albor_pipeline.transport.ssh import ANSWER_S, QUIET_S
from albor_pipeline.transport.sshconfig import Hop, route

PROGRAM = "ssh"
CROSSING_S = 5  # how long a machine tries to connect to another before the way through here is taken
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
    return reach(login(route(machine, root), forward_agent=machine.forward_agent), machine.name, machine.workdir or workdir, lineage)


def login(hops: Sequence[Hop], *, forward_agent: bool = False) -> list[str]:
    """The command line that logs in at the end of a way. Raises Unusable."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise Unusable(f"the program {PROGRAM} is not installed here")
    return words(program, hops, forward_agent=forward_agent)


def reach(login: Sequence[str], name: str, workdir: str, lineage: str) -> AgentClient:
    """The agent of a machine that it was put on before, by a command line that logs in there. Raises Unusable."""
    try:
        command = arrival.command(workdir, lineage, name, again=True)
        channel = ProcessChannel([*login, command], hang_up_wait_s=0.0)
    except OSError as error:
        raise Unusable(f"{login[0]} cannot be started: {error}") from None
    return AgentClient(channel, name, first=FIRST_REQUEST)


def crossing(machine: Machine, root: str, workdir: str, lineage: str) -> dict[str, str | list[str]]:
    """How another machine's agent reaches this one (agent/reaching.py): `words` for its `ssh`, and the `known_hosts` that we go by.

    Without hosts on the way, which are ours. Raises Unusable.
    """
    last = route(machine, root)[-1]
    keys = recorded(last.key_name, last.known_hosts)
    try:
        command = arrival.command(machine.workdir or workdir, lineage, machine.name, again=True)
    except OSError as error:
        raise Unusable(f"the agent program cannot be made: {error}") from None
    options = _options(last) | {"ConnectTimeout": f"{CROSSING_S}", "IdentitiesOnly": "no"}
    lines = [f"{line.mark} {last.key_name} {line.key.kind} {line.key.base64}".strip() for line in keys]
    return {"words": [*_login(last, options), command], "known_hosts": "".join(f"{line}\n" for line in lines)}


def words(program: str, hops: Sequence[Hop], *, forward_agent: bool = False) -> list[str]:
    """The command line of a login at the last of these hops, through the others; what is to be run there is to be put after it."""
    *before, last = hops
    options = {
        **_options(last),
        "ConnectTimeout": f"{max(1, round(last.connect_s))}",
        "ConnectionAttempts": str(last.connects),
        "ForwardAgent": "yes" if forward_agent else "no",
        "IdentitiesOnly": "yes" if last.only_these_keys else "no",
        "UserKnownHostsFile": " ".join(_quoted(str(Path(file).expanduser())) for file in last.known_hosts),
    }
    if before:
        inner = shlex.join([*words(program, before)[:-2], "-W", f"[{last.host}]:{last.port}", "--", before[-1].host])
        options["ProxyCommand"] = _plain(inner)
    elif last.proxy_command is not None:
        options["ProxyCommand"] = _plain(last.proxy_command)
    return [program, *_login(last, options, [f"IdentityFile={_quoted(key)}" for key in last.keys])]


def _options(hop: Hop) -> dict[str, str]:
    """What every login at a server says, from wherever."""
    return {
        **FIXED,
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": hop.key_name,
        "ServerAliveCountMax": f"{max(1, round(ANSWER_S / QUIET_S))}",
        "ServerAliveInterval": f"{max(1, round(QUIET_S))}",
    }


def _login(hop: Hop, options: Mapping[str, str], more: Sequence[str] = ()) -> list[str]:
    given = [word for setting in (*(f"{name}={value}" for name, value in options.items()), *more) for word in ("-o", setting)]
    return ["-F", "/dev/null", "-T", *given, "-l", hop.user, "-p", str(hop.port), "--", hop.host]


def _plain(text: str) -> str:
    """A text in which `ssh` replaces nothing."""
    return text.replace("%", "%%")


def _quoted(path: str) -> str:
    return f'"{_plain(path)}"'
