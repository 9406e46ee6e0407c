"""A way to a machine, opened: sockets, host keys, logins, one hop after the other. Runs nothing there."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from albor_pipeline.transport import faults
from albor_pipeline.transport.faults import HostKey, Unusable
from albor_pipeline.transport.sshconfig import Hop

LOGIN_S = 20.0
REVOKED = "@revoked"


class Dialled:
    """The logged-in connections of a way; the last one's `transport` is the machine's."""

    def __init__(self) -> None:
        self._clients: list[Any] = []
        self._sockets: list[Any] = []
        self._closed = False

    @property
    def transport(self) -> Any:
        """The connection to the machine itself."""
        return self._clients[-1].get_transport()

    def dial(self, hops: Sequence[Hop]) -> None:
        """Open all hops. Raises Unusable; what was opened is to be closed all the same."""
        logging.getLogger("paramiko").addHandler(logging.NullHandler())
        for number, hop in enumerate(hops):
            try:
                line = self._line(hop, number)
                self._clients.append(_client(hop))
                self._log_in(hop, line)
            except Unusable as error:
                if number == len(hops) - 1:
                    raise
                raise Unusable(f"the jump host {hop.where}: {error.text}", *error.ways) from None

    def _line(self, hop: Hop, number: int) -> Any:
        """The bytes to a hop: a socket, a program, or a channel of the hop before."""
        if number:
            return self._forward(hop)
        if hop.proxy_command is not None:
            from paramiko import ProxyCommand

            line = ProxyCommand(hop.proxy_command)
        else:
            line = _connect(hop)
        self._sockets.append(line)
        if self._closed:
            line.close()
        return line

    def _forward(self, hop: Hop) -> Any:
        from paramiko import SSHException

        try:
            return self.transport.open_channel("direct-tcpip", (hop.host, hop.port), ("127.0.0.1", 0), timeout=hop.connect_s)
        except (SSHException, OSError, EOFError) as error:
            raise Unusable(f"the jump host before {hop.where} cannot reach it: {error}") from None

    def _log_in(self, hop: Hop, line: Any) -> None:
        from paramiko import AuthenticationException, BadHostKeyException, PasswordRequiredException, SSHException

        try:
            self._clients[-1].connect(
                _bare(hop), 22 if _bare(hop) == hop.key_name else hop.port, hop.user, key_filename=list(hop.keys) or None, sock=line,
                timeout=hop.connect_s, banner_timeout=hop.connect_s, auth_timeout=LOGIN_S, channel_timeout=LOGIN_S,
                allow_agent=not hop.only_these_keys, look_for_keys=not hop.keys,
            )  # fmt: skip
            _check_revoked(hop, self.transport.get_remote_server_key())
        except BadHostKeyException as error:
            shown, recorded = HostKey.of(error.key), HostKey.of(error.expected_key)
            raise faults.changed_key(hop.key_name, shown, recorded, _file_with(hop)) from None
        except PasswordRequiredException:
            raise faults.locked(list(hop.keys)) from None
        except AuthenticationException:
            raise faults.refused(hop.user, hop.host, hop.port, _tried(hop)) from None
        except SSHException as error:
            if "No authentication methods" in str(error):
                raise faults.refused(hop.user, hop.host, hop.port, _tried(hop)) from None
            raise Unusable(f"{hop.where}: {error}") from None
        except EOFError:
            raise Unusable(f"{hop.where} closed the connection") from None
        except (OSError, ValueError) as error:
            raise Unusable(f"{hop.where}: {error}") from None

    def close(self) -> None:
        """Hang up; what is still being opened ends too."""
        self._closed = True
        for line in reversed(self._sockets):
            line.close()
        for client in reversed(self._clients):
            client.close()


def _bare(hop: Hop) -> str:
    """The name that the library files the host key under, which adds the port itself."""
    return hop.key_name[1 : -len(f"]:{hop.port}")] if hop.key_name.startswith("[") else hop.key_name


def _connect(hop: Hop) -> socket.socket:
    try:
        line = socket.create_connection((hop.host, hop.port), hop.connect_s)
    except socket.gaierror:
        raise Unusable(f"the address {hop.host} is not known") from None
    except TimeoutError:
        raise Unusable(f"{hop.where}, timed out after {hop.connect_s:.0f} s") from None
    except ConnectionRefusedError:
        raise Unusable(f"{hop.where} refuses connections: no SSH server listens there") from None
    except OSError as error:
        raise Unusable(f"{hop.where}: {error.strerror or error}") from None
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return line


def _client(hop: Hop) -> Any:
    """A client that knows the recorded host keys, and takes no other."""
    from paramiko import SSHClient

    client = SSHClient()
    for name in hop.known_hosts:
        path = Path(name).expanduser()
        if path.is_file():
            client.load_system_host_keys(str(path))
    client.set_missing_host_key_policy(_Strict(hop))
    return client


class _Strict:
    """What is asked when no key of a host is recorded: never yes."""

    def __init__(self, hop: Hop) -> None:
        self._hop = hop

    def missing_host_key(self, _client: Any, _name: str, key: Any) -> None:
        """Raises Unusable."""
        raise faults.unknown_key(self._hop.key_name, HostKey.of(key), self._hop.known_hosts[0])


def _check_revoked(hop: Hop, key: Any) -> None:
    """Raises Unusable when a file of known hosts takes the key back, which the library does not look for."""
    for name in hop.known_hosts:
        try:
            lines = Path(name).expanduser().read_text(errors="replace").splitlines()
        except OSError:
            continue
        if any(line.startswith(REVOKED) and key.get_base64() in line.split() for line in lines):
            raise Unusable(f"the host key of {hop.key_name} is marked as revoked in {name}: {HostKey.of(key)}")


def _file_with(hop: Hop) -> str:
    """The file that holds the recorded key of a host."""
    from paramiko import HostKeys

    for name in hop.known_hosts:
        path = Path(name).expanduser()
        if path.is_file() and HostKeys(str(path)).lookup(hop.key_name) is not None:
            return name
    return hop.known_hosts[0]


def _tried(hop: Hop) -> list[str]:
    """The keys that were offered, as a user would name them."""
    from paramiko import Agent

    found = list(hop.keys)
    if not hop.keys:
        found += [str(path) for path in sorted(Path("~/.ssh").expanduser().glob("id_*")) if path.suffix != ".pub"]
    if not hop.only_these_keys:
        found += [f"{key.get_name()} {key.fingerprint} of the agent" for key in Agent().get_keys()]
    return found
