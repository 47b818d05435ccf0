"""Where Deepgram is, with which key, whom to trust: makes the connections of all streams."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from autobahn.twisted.websocket import WebSocketClientFactory
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.ssl import optionsForClientTLS

from .. import __version__
from ..config import Settings
from ..errors import SettingsError
from ..limits import TRANSCRIBER_MESSAGE_MAX_BYTES
from ..stream.transcription import CONNECT_TIMEOUT_S
from ..wire.deepgram import listen_url
from .names import SharedNames
from .socket import DeepgramSocket


class Dial:
    """Makes connections: where to, with which key, whom to trust."""

    def __init__(self, settings: Settings, reactor: Any, trust: Any = None) -> None:
        """``trust`` replaces the platform's authorities. Raises: ``SettingsError``."""
        key = settings.deepgram_api_key.get_secret_value() if settings.deepgram_api_key else ""
        if not (key and key.isascii() and key.isprintable()):
            raise SettingsError(["deepgram_api_key: is missing, or holds a character that no key has"])
        self._headers = {"Authorization": f"Token {key}"}
        self._settings = settings
        self._reactor = reactor
        parts = urlsplit(listen_url(settings, 8000))
        host, is_secure = parts.hostname or "", parts.scheme == "wss"
        port = parts.port or (443 if is_secure else 80)
        plain = HostnameEndpoint(SharedNames(reactor), host, port, timeout=CONNECT_TIMEOUT_S)
        tls = optionsForClientTLS(host, trustRoot=trust) if is_secure else None
        self._endpoint = plain if tls is None else wrapClientTLS(tls, plain)

    def connect(self, link: DeepgramSocket, sample_rate: int) -> None:
        """Begin to connect; the owner of ``link`` hears what comes of it."""
        factory: Any = WebSocketClientFactory(
            listen_url(self._settings, sample_rate),
            headers=self._headers,
            useragent=f"voiceingest/{__version__}",
            reactor=self._reactor,
        )
        factory.noisy = False
        # No timer of Autobahn's: the owner has a deadline for everything it waits for.
        factory.setProtocolOptions(
            openHandshakeTimeout=0,
            closeHandshakeTimeout=0,
            serverConnectionDropTimeout=0,
            maxFramePayloadSize=TRANSCRIBER_MESSAGE_MAX_BYTES,
            maxMessagePayloadSize=TRANSCRIBER_MESSAGE_MAX_BYTES,
            failByDrop=True,
            tcpNoDelay=True,
        )
        link.dial(self._endpoint, factory)
