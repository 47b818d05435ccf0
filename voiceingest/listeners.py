"""Listening ports: bound together or not at all, closed late. Where they are is in ``places``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, FirstError, ensureDeferred, gatherResults
from twisted.internet.endpoints import serverFromString, wrapServerTLS
from twisted.internet.error import AlreadyListened, CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.tcp import Port
from twisted.logger import Logger
from twisted.python.failure import Failure

from .accepting import AcceptPauses, LateClose
from .errors import PortUnavailable, SettingsError
from .places import Place, admin_places, own_pair, public_places, take_apart
from .reuseport import SharedPorts
from .tls import Certificates

__all__: Final = ("Listener", "Place", "admin_places", "own_pair", "public_places", "take_apart")


class Listener:
    """The ports of one site, bound together or not at all: a child of the service tree."""

    _log = Logger()

    def __init__(
        self,
        name: str,
        places: Sequence[Place],
        factory: IProtocolFactory,
        certificates: Certificates,
        reactor: Any,
        *,
        late: LateClose | None = None,
        paused: Callable[[], object] = lambda: None,
    ) -> None:
        """Make the endpoints; no socket is opened.

        ``late`` closes the ports that are our own, at once where it is ``None``; ``paused`` is called
        each time a port is left alone for a moment, because nothing can be accepted.
        Raises: ``SettingsError`` for what Twisted cannot read, ``BadCertificate``.
        """
        self.name = name
        self._factory = factory
        self._reactor = reactor
        self._late = late
        self._paused = paused
        self._ports: list[tuple[Place, IListeningPort]] = []
        self._endpoints = [(place, self._make_endpoint(place, certificates, reactor)) for place in places]

    def _make_endpoint(self, place: Place, certificates: Certificates, reactor: Any) -> IStreamServerEndpoint:
        try:
            ports = SharedPorts(reactor) if place.reuse_port else reactor
            endpoint: IStreamServerEndpoint = serverFromString(ports, place.plain)
        # What Twisted's parsers let escape: wrong numbers, wrong options, no such inherited socket.
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            raise SettingsError([f"{self.name}: {place.description}: {_reason(error)}"]) from None
        if place.pair is None:
            return endpoint
        return wrapServerTLS(certificates.context_for(place.pair), endpoint, reactor)

    @property
    def addresses(self) -> list[Any]:
        """The addresses that are bound, in the order of the descriptions."""
        return [port.getHost() for _, port in self._ports]

    @property
    def stop_deadline_s(self) -> float:
        """How long a stop may take, in seconds; whoever waits for it adds a margin."""
        return self._late.deadline_s if self._late is not None else 0.0

    def start(self) -> Deferred[None]:
        """Bind every port. Fails with ``PortUnavailable``; those bound are then closed again."""
        return ensureDeferred(self._start())

    async def _start(self) -> None:
        for place, endpoint in self._endpoints:
            try:
                port = await endpoint.listen(self._factory)
            except (CannotListenError, AlreadyListened, OSError) as error:
                await self._close_at_once()
                line = f"{self.name}: {place.description}: cannot listen: {_reason(error)}"
                raise PortUnavailable(line) from None
            self._ports.append((place, port))
            if isinstance(port, Port):
                AcceptPauses(port, self._reactor, self._paused)
            self._log.info(
                "Listening on {address}", event="listening", site=self.name, address=_where(port.getHost()),
                tls=place.pair is not None,
            )

    def stop(self) -> Deferred[None]:
        """Accept nothing more, at once or late. Connections that are open stay.

        Cut short, it closes at once. A socket that is inherited is closed first of all: who waits in
        its queue waits for the next process.
        """
        if self._late is None:
            return self._close_at_once()
        late = [(place, port) for place, port in self._ports if _has_own_queue(place, port)]
        self._ports = [bound for bound in self._ports if bound not in late]
        closed = [self._close_at_once()]
        if late:
            closed.append(Deferred.fromCoroutine(self._late.close([port for _, port in late])))
        return _all(closed)

    def _close_at_once(self) -> Deferred[None]:
        ports, self._ports = self._ports, []
        return _all([Deferred.fromCoroutine(_stop_listening(port)) for _, port in ports])


def _has_own_queue(place: Place, port: IListeningPort) -> bool:
    return isinstance(port, Port) and not place.is_inherited


def _all(closed: Sequence[Deferred[None]]) -> Deferred[None]:
    # A stop that is cut short is a cancellation, not a failure of one of several.
    return gatherResults(closed, consumeErrors=True).addCallbacks(lambda _: None, _first_reason)


def _first_reason(failure: Failure) -> Failure:
    return failure.value.subFailure if isinstance(failure.value, FirstError) else failure


async def _stop_listening(port: IListeningPort) -> None:
    closing = port.stopListening()
    if closing is not None:
        await closing


def _where(address: Any) -> str:
    """An address as it is written."""
    host, port = getattr(address, "host", None), getattr(address, "port", None)
    if host is None:
        return os.fsdecode(getattr(address, "name", None) or "unnamed socket")
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _reason(error: Exception) -> str:
    """What went wrong in a few words: the operating system's, where it has some."""
    if isinstance(error, CannotListenError):
        error = error.socketError
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
