"""``/v1/ingest``: PCM16LE frames and JSON control text over a WebSocket, opened with a JWT."""

from __future__ import annotations

from typing import Any, Final

from ..driver import StreamDriver
from ..errors import PeerError, VoiceIngestError
from ..house import House
from ..interfaces import Claims, Handshake
from ..stream import Wish
from ..websocket import HardenedProtocol
from ..wire import ingest

PATH: Final = "/v1/ingest"
NAME: Final = "ingest"


class IngestSession:
    """One caller: the WebSocket on its one side, the stream's driver on its other."""

    transport_name = NAME

    def __init__(self, socket: HardenedProtocol, claims: Claims, house: House) -> None:
        self._socket = socket
        self.request_id = socket.request_id
        self._driver = StreamDriver(self, claims, house)
        self.binary = self._driver.frame
        self.opened = self._driver.opened
        self.refused = self._driver.refused
        self.lost = self._driver.lost
        self.pause = socket.pause
        self.close = socket.close

    def text(self, payload: bytes) -> None:
        """A control message of the caller."""
        try:
            message = ingest.decode(payload)
        except PeerError as error:
            self._driver.refuse(error)
            return
        if isinstance(message, ingest.Start):
            wish = Wish(message.resume_token, message.acked, message.from_seq, message.resumable)
            self._driver.start(message.tenant_id, message.interaction_id, message.audio, wish)
        elif isinstance(message, ingest.Stop):
            self._driver.stop()
        else:
            self._driver.auth(message.token)

    def say(self, event: str, **fields: Any) -> None:
        """Send a control message to the caller."""
        self._socket.send_text(ingest.encode(event, **fields))

    def say_error(self, error: VoiceIngestError) -> None:
        """Send an error to the caller."""
        self._socket.send_text(ingest.encode_error(error))

    def ack(self, seq: int) -> None:
        """Acknowledge everything up to ``seq``."""
        self._socket.send_text(ingest.encode_ack(seq))


class IngestTransport:
    """What the site needs to know of this dialect: who may open a connection, and what it becomes."""

    name = NAME
    path = PATH

    def __init__(self, house: House) -> None:
        self._house = house

    def refuse_new(self) -> bool:
        """Whether the daemon takes no one new."""
        return self._house.registry.draining

    def session(self, socket: HardenedProtocol, claims: Claims, handshake: Handshake) -> IngestSession:
        """The session of an accepted connection."""
        return IngestSession(socket, claims, self._house)
