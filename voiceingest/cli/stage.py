"""The whole daemon inside this process, on the loopback, with keys that are thrown away."""

from __future__ import annotations

import secrets
import socket
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from twisted.application.service import Application, IService
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.error import ConnectError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import ILogObserver, globalLogBeginner

from ..config import Settings
from ..interfaces import IBus
from ..publishers.memory import Memory
from ..service import make_service
from .failures import CommandFailed
from .minting import Signer, TokenRequest, load_signer, mint, rsa_pair, tls_pair
from .operator import DaemonPlace
from .target import Target, Trust

HOST: Final = "127.0.0.1"
START_TIMEOUT_S: Final = 15.0
LOG_LINES_MAX_COUNT: Final = 200
_POLL_S: Final = 0.02

# Made for one run and thrown away with it: the least that is accepted, for it takes time to make.
_RSA_BITS: Final = 2048


class LogLines:
    """Keeps the newest lines of the daemon's log, to be shown when something goes wrong."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=LOG_LINES_MAX_COUNT)

    def write(self, text: str) -> None:
        """Take one line."""
        self.lines.append(text.rstrip("\n"))

    def flush(self) -> None:
        """Nothing is held back."""


class Stage:
    """One daemon: TLS on a free port, memory bus, a key pair. Use ``up`` and then ``down``.

    ``secure`` false: without TLS. ``overrides`` are settings on top; ``kept`` makes more of them for the
    folder that is thrown away with everything else.
    """

    def __init__(
        self,
        reactor: Any,
        tenant_id: str,
        *,
        secure: bool = True,
        overrides: Mapping[str, Any] | None = None,
        kept: Callable[[Path], Mapping[str, Any]] | None = None,
    ) -> None:
        self._reactor = reactor
        self.tenant_id = tenant_id
        self.call_token = secrets.token_urlsafe(24)
        self._secure = secure
        self._folder = tempfile.TemporaryDirectory(prefix="voiceingest-demo-")
        self._overrides = {**(overrides or {}), **(kept(Path(self._folder.name)) if kept else {})}
        self._signer: Signer | None = None
        self._service: IService | None = None
        self._bus: Memory | None = None
        self.log = LogLines()
        # Held from here to the end: nobody else is given them while the daemon is being made.
        self._held = [held_port(), held_port()]
        self.port, self.admin_port = (int(held.getsockname()[1]) for held in self._held)

    @property
    def ca_path(self) -> Path:
        """The certificate, to be trusted by clients."""
        return Path(self._folder.name) / "tls-cert.pem"

    @property
    def target(self) -> Target:
        """Where a client connects."""
        return Target(self._secure, HOST, self.port, "/v1/ingest")

    @property
    def call_url(self) -> str:
        """Where a call comes in."""
        return f"{'wss' if self._secure else 'ws'}://{HOST}:{self.port}/voicebot/ws"

    @property
    def place(self) -> DaemonPlace:
        """Where the API is asked."""
        return DaemonPlace(self._secure, HOST, self.port, "")

    @property
    def trust(self) -> Trust:
        """Whom a client believes: this certificate and no other."""
        return Trust(self.ca_path)

    def token(self, lifetime_s: float) -> str:
        """A token for the tenant of the stage."""
        if self._signer is None:
            raise CommandFailed("the daemon is not up yet")
        request = TokenRequest(self.tenant_id, subject="voiceingest-demo", lifetime_s=lifetime_s)
        return mint(self._signer, request, time.time())

    def subscribe(self, subscriber: Callable[[str, bytes], None]) -> Callable[[], None]:
        """Hear everything on the bus; the answer ends that."""
        if self._bus is None:
            raise CommandFailed("the daemon is not up yet")
        return self._bus.subscribe(subscriber)

    async def up(self) -> None:
        """Make keys, build the daemon, start it, wait until its port answers.

        Raises: ``CommandFailed`` when it does not come up in time.
        """
        settings = self._settings()
        service = make_service(
            settings, self._reactor, log_stream=self.log, environ={}, make_bus=self._make_bus
        )
        application = Application("voiceingest-demo")
        service.setServiceParent(application)
        observer = application.getComponent(ILogObserver)
        if observer is not None:
            globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
        self._service = service
        service.startService()
        deadline_s = self._reactor.seconds() + START_TIMEOUT_S
        while not await self._answers():
            if self._reactor.seconds() > deadline_s:
                raise CommandFailed("the daemon did not come up")
            await deferLater(self._reactor, _POLL_S)

    async def down(self) -> None:
        """Stop the daemon in its own order, and throw the keys away."""
        try:
            if self._service is not None:
                stopped: Deferred[None] | None = self._service.stopService()
                if stopped is not None:
                    await stopped
        finally:
            for held in self._held:
                held.close()
            self._folder.cleanup()

    def _settings(self) -> Settings:
        folder = Path(self._folder.name)
        keys = rsa_pair(_RSA_BITS)
        self._signer = load_signer(keys.private_pem)
        tls = tls_pair([HOST, "localhost"], datetime.now(UTC), days=2)
        key_path = folder / "tls-key.pem"
        key_path.touch(0o600)
        key_path.write_bytes(tls.private_pem)
        self.ca_path.write_bytes(tls.public_pem)
        return Settings.model_validate(
            {
                "listen": (f"{'ssl' if self._secure else 'tcp'}:{self.port}:interface={HOST}:reusePort=1",),
                "admin": f"tcp:{self.admin_port}:interface={HOST}:reusePort=1",
                "ssl_key_path": key_path,
                "ssl_cert_path": self.ca_path,
                "jwt_public_key": keys.public_pem.decode(),
                "publish_url": "memory://",
                "exotel_ws_token": self.call_token,
                "exotel_tenant_id": self.tenant_id,
                "environment": "demo",
                **self._overrides,
            }
        )

    def _make_bus(self, settings: Settings, reactor: Any, metrics: Any) -> IBus:
        self._bus = Memory(settings, reactor, metrics)
        return self._bus

    async def _answers(self) -> bool:
        endpoint = TCP4ClientEndpoint(self._reactor, HOST, self.port, timeout=1)
        connecting: Deferred[Any] = endpoint.connect(Factory.forProtocol(Protocol))
        try:
            connection = await connecting
        except ConnectError:
            return False
        connection.transport.abortConnection()
        return True


def held_port() -> socket.socket:
    """A TCP port of the loopback that nobody listens on, for whoever says that it is shared."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((HOST, 0))
    return held
