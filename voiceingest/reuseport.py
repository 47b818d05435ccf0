"""A port that several processes listen on at once: ``SO_REUSEPORT`` (socket(7)).

The kernel deals new connections out among all who listen, so that one process may start while
another drains. Twisted below 26.10 has no option for it: the socket is made here and adopted.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.abstract import isIPv6Address
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory


class SharedPorts:
    """In place of the reactor for an endpoint that listens on TCP: the port may be shared.

    Every process that listens there must say so, and run as the same user.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    def listenTCP(  # the name is in IReactorTCP
        self, port: int, factory: IProtocolFactory, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """As ``IReactorTCP.listenTCP``. Raises: ``CannotListenError``."""
        family = socket.AF_INET6 if isIPv6Address(interface) else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as own:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                own.bind(_address(family, interface, port))
                own.listen(backlog)
                own.setblocking(False)
                # The reactor works on a copy of the descriptor; this one is closed here.
                adopted: IListeningPort = self._reactor.adoptStreamPort(own.fileno(), family, factory)
        except OSError as error:
            raise CannotListenError(interface, port, error) from error
        return adopted


def _address(family: int, interface: str, port: int) -> Any:
    """The address to bind, with the number of its scope where it names one (``fe80::1%eth0``)."""
    found = socket.getaddrinfo(interface or None, port, family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return found[0][4]
