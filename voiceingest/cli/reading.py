"""Reading a bus, whichever it is: what comes is a :class:`BusMessage`, and a reader comes back by itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater

from ..errors import PeerError
from ..wire.envelope import FrameMessage, decode_event, decode_frame
from .failures import CommandFailed, ConnectionFailed
from .running import Interrupt

RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class BusMessage:
    """A frame or an event; neither, where it could not be read.

    ``epoch`` is what the bus itself says about the frame's numbering; pub/sub says nothing.
    """

    frame: FrameMessage | None = None
    event: dict[str, Any] | None = None
    epoch: int | None = None


Received = Callable[[BusMessage], None]
Say = Callable[[str], None]


def read_json(payload: bytes, epoch: int | None = None) -> BusMessage:
    """Read what pub/sub and JetStream carry (docs/reference/wire.md). Any bytes have an answer."""
    try:
        return BusMessage(frame=decode_frame(payload), epoch=epoch)
    except PeerError:
        return read_event(payload)


def read_event(payload: bytes) -> BusMessage:
    """Read an event. Any bytes have an answer."""
    try:
        return BusMessage(event=decode_event(payload))
    except PeerError:
        return BusMessage()


class IReader(Protocol):
    """One bus being read."""

    ready: Deferred[None]

    @property
    def label(self) -> str:
        """Where the bus is, without how to be let in."""

    async def follow(self, interrupt: Interrupt) -> None:
        """Read until ``stop`` or an interrupt; ``ready`` fires when nothing is missed any more.

        Raises: ``CommandFailed`` when the first connection cannot be made, or one is refused; a
        connection that breaks later is made again.
        """

    def stop(self) -> None:
        """Read no more."""


class Reader:
    """What all readers share: coming back, with growing pauses, until there is no more to be read."""

    def __init__(self, reactor: Any, say: Say) -> None:
        """``say`` tells of breaks."""
        self._reactor = reactor
        self._say = say
        self._busy: Deferred[Any] | None = None
        self._stopped = False
        self.reconnects = 0
        self.ready: Deferred[None] = Deferred()

    @property
    def label(self) -> str:
        """Where the bus is, without how to be let in."""
        raise NotImplementedError

    async def follow(self, interrupt: Interrupt) -> None:
        """Read until ``stop`` or an interrupt. Raises: ``CommandFailed``, see ``IReader``."""
        interrupt.when().addCallback(lambda _: self.stop())
        delay_s = RETRY_FIRST_S
        try:
            while not self._stopped:
                try:
                    await self._listen()
                    delay_s = RETRY_FIRST_S
                except ConnectionFailed as failed:
                    if not self.ready.called and not self._stopped:
                        raise
                    delay_s = min(RETRY_MAX_S, delay_s * 2)
                    self._note(failed.message)
                await self._pause(delay_s)
        except CommandFailed:
            if not self._stopped:
                raise
        finally:
            await self._close()

    def stop(self) -> None:
        """Read no more."""
        self._stopped = True
        self._hang_up()
        if self._busy is not None:
            self._busy.cancel()

    # --- for each bus

    async def _listen(self) -> None:
        """One connection, from the first byte to the last."""
        raise NotImplementedError

    def _hang_up(self) -> None:
        """End the present connection, if there is one."""
        raise NotImplementedError

    async def _close(self) -> None:
        """Give back what outlives a connection."""

    # --- what they use

    def _is_ready(self) -> None:
        if not self.ready.called:
            self.ready.callback(None)

    def _broke(self, why: str) -> None:
        if not self._stopped:
            self.reconnects += 1
            self._note(f"the connection to {self.label} broke ({why}): {self._consequence}")

    _consequence = "messages may be missing"

    async def _wait(self, waited: Deferred[Any]) -> Any:
        """Wait for something that ``stop`` ends. Raises: ``CancelledError`` only where nobody stopped."""
        self._busy = waited
        try:
            return await waited
        except CancelledError:
            if not self._stopped:
                raise
            return None
        finally:
            self._busy = None

    async def _pause(self, seconds: float) -> None:
        if not self._stopped:
            await self._wait(deferLater(self._reactor, seconds))

    def _note(self, text: str) -> None:
        if not self._stopped:
            self._say(text)
