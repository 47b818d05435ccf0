"""A client of ``/v1/ingest`` on Autobahn: open, send, watch acknowledgements, stop.

It keeps what it heard in a :class:`~.tally.Tally`. It queues nothing: when the connection does not
take bytes, ``room`` waits, and the pace of the caller is the bound.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.error import TimeoutError as ConnectTimeout

from .failures import CommandFailed, Exit
from .meanings import explain
from .tally import Ending, Tally
from .target import Target, Trust, connection_failed, endpoint
from .wsclient import IngestProtocol, client_factory

OPEN_TIMEOUT_S: Final = 15.0
CLOSE_TIMEOUT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose audio it is and what it is."""

    tenant_id: str
    interaction_id: str
    sample_rate: int = 24000


class Refused(CommandFailed):
    """The server said no; carries its codes."""

    def __init__(self, tally: Tally, ending: Ending | None, label: str) -> None:
        meaning = tally.problem(ending) or explain(None, 1006)
        self.code = tally.errors[-1][0] if tally.errors else None
        self.ending = ending
        shown = "" if ending is None else _codes(self.code, ending)
        super().__init__(f"{label}: {meaning.text}{shown}", hint=meaning.hint or None, exit_code=Exit.REFUSED)


def _codes(code: str | None, ending: Ending) -> str:
    parts = [code] if code else []
    if ending.http_status is not None:
        parts.append(f"HTTP {ending.http_status}")
    elif ending.close_code is not None:
        parts.append(f"close code {ending.close_code}")
    return f" ({', '.join(parts)})" if parts else ""


class IngestClient:
    """One session. ``renew`` mints the token that answers ``auth_expiring``, where there is one."""

    def __init__(
        self,
        reactor: Any,
        target: Target,
        identity: Identity,
        token: str | None,
        *,
        trust: Trust | None = None,
        renew: Callable[[], str] | None = None,
        open_timeout_s: float = OPEN_TIMEOUT_S,
        on_event: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        self._reactor = reactor
        self._target = target
        self._identity = identity
        self._token = token
        self._trust = trust or Trust()
        self._renew = renew
        self._open_timeout_s = open_timeout_s
        self._on_event = on_event
        self._protocol: IngestProtocol | None = None
        self._connecting: Deferred[Any] | None = None
        self._waiting: list[Deferred[None]] = []
        self._paused = False
        self.is_open = False
        self.tls_version = ""
        self.tally = Tally()
        self.ending: Ending | None = None

    # --- what a caller does

    async def open(self) -> None:
        """Connect, upgrade and start the stream.

        Raises: ``ConnectionFailed`` where there is nobody, ``Refused`` where there is and says no.
        """
        secure = self._trust if self._target.secure else None
        far_end = endpoint(self._reactor, self._target.host, self._target.port, secure)
        factory = client_factory(self, self._reactor, self._target, self._token)
        try:
            connecting: Deferred[Any] = far_end.connect(factory)
            self._connecting = connecting
            self._protocol = await connecting
        except (ConnectError, ConnectingCancelledError, OSError) as problem:
            raise connection_failed(problem, self._target.label) from problem
        finally:
            self._connecting = None
        await self._until(lambda: self.is_open, self._open_timeout_s)
        self._expect(self.is_open)
        self._say(
            event="start",
            interaction_id=self._identity.interaction_id,
            tenant_id=self._identity.tenant_id,
            sample_rate=self._identity.sample_rate,
            encoding="pcm16",
        )
        await self._until(self._start_answered, self._open_timeout_s)
        if self.tally.started is None:
            # The close frame with its code follows the error, where the error closes at all.
            await self._until(lambda: False, CLOSE_TIMEOUT_S)
        self._expect(self.tally.started is not None)

    def send(self, audio: bytes) -> None:
        """Send one frame of PCM16LE. Nothing once the connection has ended."""
        if self._protocol is None or not self._protocol.takes_messages:
            return
        self.tally.sent(len(audio), self._reactor.seconds())
        self._protocol.send_message(audio, is_binary=True)

    async def room(self, timeout_s: float = 60.0) -> bool:
        """Wait until the connection takes bytes; false when it has ended or did not in time."""
        if self._paused:
            await self._until(lambda: not self._paused, timeout_s)
        return self._protocol is not None and self._protocol.takes_messages and not self._paused

    async def stop(self, timeout_s: float) -> None:
        """Say stop, wait for ``stopped`` and for the close; after ``timeout_s`` hang up."""
        if self.ending is None and self.is_open:
            self._say(event="stop")
            await self._until(lambda: self.ending is not None, timeout_s)
        if self.ending is None:
            self.abort()
            await self._until(lambda: self.ending is not None, CLOSE_TIMEOUT_S)

    def abort(self) -> None:
        """Hang up at once."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._protocol is not None:
            self._protocol.dropConnection(abort=True)

    # --- what the protocol tells

    def opened(self, protocol: IngestProtocol) -> None:
        """The upgrade is done."""
        self._protocol = protocol
        self.is_open = True
        self.tls_version = protocol.tls_version
        self._changed()

    def refused(self, code: str, message: str) -> None:
        """The upgrade was refused with an error code."""
        self.tally.error(code, message)

    def paused(self, paused: bool) -> None:
        """The connection has stopped, or begun again, to take bytes."""
        self._paused = paused
        self._changed()

    def heard(self, payload: bytes) -> None:
        """One text message of the server."""
        try:
            message = json.loads(payload)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            self.tally.error("bad_json", "The server sent something that is not a JSON object")
            return
        self._note(message)
        if self._on_event is not None:
            self._on_event(message)
        self._changed()

    def ended(self, ending: Ending) -> None:
        """The connection is gone."""
        if self.ending is None:
            self.ending = ending
        self._changed()

    # --- inside

    def _note(self, message: dict[str, Any]) -> None:
        event = message.get("event")
        if event == "ack" and isinstance(message.get("seq"), int):
            self.tally.ack(message["seq"], self._reactor.seconds())
        elif event == "started":
            self.tally.started = message
        elif event == "stopped":
            self.tally.finish(message)
        elif event == "error":
            self.tally.error(str(message.get("code")), str(message.get("message")))
        elif event == "gap":
            self.tally.gaps += 1
        elif event == "auth_expiring" and self._renew is not None:
            self.tally.renewals += 1
            self._say(event="auth", token=self._renew())

    def _start_answered(self) -> bool:
        return self.tally.started is not None or self.tally.error_count > 0

    def _say(self, **fields: Any) -> None:
        if self._protocol is not None and self._protocol.takes_messages:
            self._protocol.send_message(json.dumps(fields).encode())

    def _expect(self, reached: bool) -> None:
        if reached and self.ending is None:
            return
        ending = self.ending
        self.abort()
        if not self.is_open and (ending is None or ending.failure is not None):
            problem = ConnectTimeout() if ending is None else ending.failure
            raise connection_failed(problem, self._target.label) from problem
        raise Refused(self.tally, ending, self._target.label)

    async def _until(self, reached: Callable[[], bool], timeout_s: float) -> None:
        """Wait until ``reached``, the end of the connection, or ``timeout_s``."""
        deadline = self._reactor.callLater(timeout_s, self._changed)
        while not reached() and self.ending is None and deadline.active():
            waiter: Deferred[None] = Deferred()
            self._waiting.append(waiter)
            await waiter
        if deadline.active():
            deadline.cancel()

    def _changed(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)
