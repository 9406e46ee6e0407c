"""A way to a machine, opened: sockets, host keys, logins, one hop after the other. Runs nothing there."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from albor_pipeline.transport import faults
from albor_pipeline.transport.faults import HostKey, Unusable
from albor_pipeline.transport.knownhosts import check, recorded
from albor_pipeline.transport.sshconfig import Hop

LOGIN_S = 20.0
CONNECT_PAUSE_S = 1.0  # as OpenSSH waits between its attempts


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
            line = self._reach(hop)
        self._sockets.append(line)
        if self._closed:
            line.close()
        return line

    def _reach(self, hop: Hop) -> socket.socket:
        """A socket to the hop, tried again each second as often as it says."""
        for _attempt in range(hop.connects - 1):
            with suppress(Unusable):
                return _connect(hop)
            time.sleep(CONNECT_PAUSE_S)
            if self._closed:
                break
        return _connect(hop)

    def _forward(self, hop: Hop) -> Any:
        from paramiko import SSHException

        try:
            return self.transport.open_channel("direct-tcpip", (hop.host, hop.port), ("127.0.0.1", 0), timeout=hop.connect_s)
        except (SSHException, OSError, EOFError) as error:
            raise Unusable(f"the jump host before {hop.where} cannot reach it: {error}") from None

    def _log_in(self, hop: Hop, line: Any) -> None:
        from paramiko import AuthenticationException, PasswordRequiredException, SSHException

        began = time.monotonic()
        try:
            self._clients[-1].connect(
                hop.host, hop.port, hop.user, key_filename=list(hop.keys) or None, sock=line, transport_factory=_transport(hop),
                timeout=hop.connect_s, banner_timeout=hop.connect_s, auth_timeout=LOGIN_S, channel_timeout=LOGIN_S,
                allow_agent=not hop.only_these_keys, look_for_keys=not hop.keys,
            )  # fmt: skip
        except PasswordRequiredException:
            raise faults.locked(list(hop.keys)) from None
        except AuthenticationException:
            raise faults.refused(hop.user, hop.host, hop.port, _tried(hop)) from None
        except SSHException as error:
            if "No authentication methods" in str(error):
                raise faults.refused(hop.user, hop.host, hop.port, _tried(hop)) from None
            if "No existing session" in str(error) or time.monotonic() - began >= hop.connect_s:
                raise Unusable(f"{hop.where}, no SSH server answered in {hop.connect_s:.0f} s") from None
            none = "what answers there is no SSH server, or one that takes no more connections"
            raise Unusable(f"{hop.where}: {none if 'banner' in str(error) else error}") from None
        except EOFError:
            raise Unusable(f"{hop.where} closed the connection") from None
        except (OSError, ValueError) as error:
            raise Unusable(f"{hop.where}: {error}") from None

    def close(self) -> None:
        """Hang up; what is still being opened ends too."""
        self._closed = True
        for one in (*reversed(self._clients), *self._sockets):
            with suppress(OSError, EOFError):
                one.close()


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
    """A client that asks us about every host key, and takes none by itself."""
    from paramiko import SSHClient

    client = SSHClient()
    client.set_missing_host_key_policy(_Strict(hop))
    return client


class _Strict:
    """What the library asks when it has no record of a host, which is always."""

    def __init__(self, hop: Hop) -> None:
        self._hop = hop

    def missing_host_key(self, _client: Any, _name: str, key: Any) -> None:
        """Raises Unusable."""
        check(self._hop.key_name, self._hop.known_hosts, HostKey.of(key))


def _transport(hop: Hop) -> Callable[..., Any]:
    """Makes a connection that asks the host for a kind of key that is recorded of it, if any is."""
    from paramiko import Transport

    def make(line: Any, **options: Any) -> Any:
        made = Transport(line, **options)
        kinds = {line.key.kind for line in recorded(hop.key_name, hop.known_hosts)}
        names = made.get_security_options().key_types
        wanted = [name for name in names if name in kinds or ("ssh-rsa" in kinds and name.startswith("rsa-sha2"))]
        made.get_security_options().key_types = [*wanted, *(name for name in names if name not in wanted)]
        return made

    return make


def _tried(hop: Hop) -> list[str]:
    """The keys that were offered, as a user would name them."""
    from paramiko import Agent

    found = list(hop.keys)
    if not hop.keys:
        found += [str(path) for path in sorted(Path("~/.ssh").expanduser().glob("id_*")) if path.suffix != ".pub"]
    if not hop.only_these_keys:
        found += [f"{key.get_name()} {key.fingerprint} of the agent" for key in Agent().get_keys()]
    return found
