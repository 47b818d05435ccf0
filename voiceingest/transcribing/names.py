"""One look-up of a name at a time, whoever waits for it.

The reactor asks the system on a thread, and what was asked cannot be taken back. When the name server
is away each answer takes half a minute: hundreds of streams that try again every few seconds would
fill the queue of the threads without end, and nobody else's names would be found.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
)
from zope.interface import implementer


@implementer(IReactorPluggableNameResolver, IHostnameResolver)
class SharedNames:
    """A reactor for endpoints of one host: as the other, but that its look-ups are shared."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._waiting: list[IResolutionReceiver] = []
        self.nameResolver = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """Twisted's interface; the reactor's own resolver is the one to replace."""
        previous: IHostnameResolver = self._reactor.installNameResolver(resolver)
        return previous

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,
        hostName: str,
        portNumber: int = 0,
        addressTypes: Sequence[type[IAddress]] | None = None,
        transportSemantics: str = "TCP",
    ) -> IHostResolution:
        """Twisted's hook: ask, or wait for the answer to what was asked already."""
        self._waiting.append(resolutionReceiver)
        if len(self._waiting) > 1:
            return _Resolution(hostName)
        asked: IHostResolution = self._reactor.nameResolver.resolveHostName(
            _Answer(self._waiting), hostName, portNumber, addressTypes, transportSemantics
        )
        return asked


@implementer(IHostResolution)
class _Resolution:
    """What is asked already."""

    def __init__(self, name: str) -> None:
        self.name = name

    def cancel(self) -> None:
        """Nothing: others wait for it."""


@implementer(IResolutionReceiver)
class _Answer:
    """Hands one answer to everybody who waits when it comes."""

    def __init__(self, waiting: list[IResolutionReceiver]) -> None:
        self._waiting = waiting
        self._addresses: list[IAddress] = []

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """Twisted's hook."""

    def addressResolved(self, address: IAddress) -> None:
        """Twisted's hook: one of the addresses."""
        self._addresses.append(address)

    def resolutionComplete(self) -> None:
        """Twisted's hook: those were all."""
        waiting = self._waiting[:]
        self._waiting.clear()
        for receiver in waiting:
            for address in self._addresses:
                receiver.addressResolved(address)
            receiver.resolutionComplete()
