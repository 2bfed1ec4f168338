"""Loopback ports: free ones, and whether one is taken."""

import random
import socket
from contextlib import suppress

import psutil

from tools.errors import PortBusyError

_FIRST, _LAST = 15_000, 29_999
"""Below the range from which systems draw ports of outgoing connections, so that a port that is
kept for a broker is not taken by a passing client."""


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Return whether one can listen on a port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As servers do: a port that lingers after a stop is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """Return that many free loopback ports, drawn at random so that stacks do not meet."""
    source = random.SystemRandom()
    ports: list[int] = []
    while len(ports) < count:
        port = source.randint(_FIRST, _LAST)
        if port not in ports and is_free(port):
            ports.append(port)
    return ports


def require_free(port: int, *, host: str, setting: str) -> None:
    """Check that a port can be listened on.

    Raises:
        PortBusyError: If not; the message names who has it and the setting to change.
    """
    if not is_free(port, host):
        raise PortBusyError(
            f"Cannot listen on {host}:{port}{_owner(port)}. Stop that program, or choose another "
            f"port with {setting}=<port> ({setting}=0 takes any free one)."
        )


def _owner(port: int) -> str:
    with suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN
            if listens and connection.laddr.port == port and connection.pid:
                name = psutil.Process(connection.pid).name()
                return f": {name} (pid {connection.pid}) has the port"
    return ": the port is taken or the address is not this machine's"
