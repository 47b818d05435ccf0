"""One connection of a client: made, said things to, listened to, and over. A stream may need several."""

from __future__ import annotations

import json
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectingCancelledError
from twisted.internet.error import TimeoutError as ConnectTimeout

from .failures import CommandFailed, ConnectionFailed, Exit
from .meanings import explain
from .tally import Ending, Tally
from .target import Target, Trust, connection_failed, endpoint
from .wsclient import IngestProtocol, bearer, client_factory

# How long a connection that has nothing more to say may take to close.
FAREWELL_S: Final = 2.0


class Refused(CommandFailed):
    """The server said no; carries its codes."""

    def __init__(self, tally: Tally, ending: Ending | None, label: str) -> None:
        meaning = tally.problem(ending) or explain(None, 1006)
        self.code = tally.last_code
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


class ILinkOwner(Protocol):
    """Who is told what happens on a link."""

    def refused(self, code: str, message: str) -> None:
        """The upgrade was refused with an error code; ``changed`` follows."""

    def heard(self, link: Link, payload: bytes) -> None:
        """One text message of the server."""

    def changed(self, link: Link) -> None:
        """It has opened, ended, or begun or stopped to take bytes."""


class Link:
    """A connection to ``target``. It queues nothing: ``takes_frames`` says whether it takes more."""

    def __init__(
        self, reactor: Any, target: Target, trust: Trust, token: str | None, owner: ILinkOwner
    ) -> None:
        self._reactor = reactor
        self._target = target
        self._trust = trust
        self._token = token
        self._owner = owner
        self._protocol: IngestProtocol | None = None
        self._connecting: Deferred[Any] | None = None
        self._farewell: Any = None
        self.is_open = False
        self.stop_said = False
        self.is_paused = False
        self.paused_at_s = 0.0
        self.tls_version = ""
        self.ending: Ending | None = None

    async def connect(self) -> None:
        """Connect; the upgrade follows. Raises: ``ConnectionFailed``, ``UsageFailed``.

        The name of the host is looked up every time: where it leads may have changed.
        """
        secure = self._trust if self._target.secure else None
        far_end = endpoint(self._reactor, self._target.host, self._target.port, secure)
        factory = self._factory()
        try:
            connecting: Deferred[Any] = far_end.connect(factory)
            self._connecting = connecting
            self._protocol = await connecting
        except (ConnectError, ConnectingCancelledError, OSError) as problem:
            raise connection_failed(problem, self._target.label) from problem
        finally:
            self._connecting = None

    def _factory(self) -> Any:
        return client_factory(self, self._reactor, self._target, bearer(self._token))

    def failed_to_open(self) -> ConnectionFailed | None:
        """Why there is no WebSocket; ``None`` when there is one, or a refusal of one."""
        ending = self.ending
        if self.is_open or (ending is not None and ending.failure is None):
            return None
        problem = ConnectTimeout() if ending is None else ending.failure
        return connection_failed(problem, self._target.label)

    @property
    def takes_messages(self) -> bool:
        """Whether something can be said: it is open, and neither side has said goodbye."""
        return self.ending is None and self._protocol is not None and self._protocol.takes_messages

    @property
    def takes_frames(self) -> bool:
        """Whether what is sent goes out now, and is not left lying in this process."""
        return self.takes_messages and not self.is_paused

    def send(self, audio: bytes) -> None:
        """Send one frame."""
        if self._protocol is not None and self.takes_messages:
            self._protocol.send_frame(audio)

    def say(self, **fields: Any) -> None:
        """Send one JSON message."""
        if self._protocol is not None and self.takes_messages:
            self._protocol.send_message(json.dumps(fields).encode())

    def abort(self) -> None:
        """Hang up at once."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._protocol is not None:
            self._protocol.dropConnection(abort=True)

    def retire(self, after_s: float = FAREWELL_S) -> None:
        """Nothing more comes of it: let it close by itself, but not for ever."""
        if self.ending is None and self._farewell is None:
            self._farewell = self._reactor.callLater(after_s, self.abort)

    # --- what the protocol tells

    def opened(self, protocol: IngestProtocol) -> None:
        """The upgrade is done."""
        self._protocol = protocol
        self.is_open = True
        self.tls_version = protocol.tls_version
        self._owner.changed(self)

    def refused(self, code: str, message: str) -> None:
        """The upgrade was refused with an error code."""
        self._owner.refused(code, message)

    def paused(self, paused: bool) -> None:
        """The connection has stopped, or begun again, to take bytes."""
        self.is_paused = paused
        self.paused_at_s = self._reactor.seconds()
        self._owner.changed(self)

    def heard(self, payload: bytes) -> None:
        """One text message of the server."""
        self._owner.heard(self, payload)

    def ended(self, ending: Ending) -> None:
        """The connection is gone."""
        if self._farewell is not None and self._farewell.active():
            self._farewell.cancel()
        if self.ending is None:
            self.ending = ending
        self._owner.changed(self)
