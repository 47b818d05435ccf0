"""A daemon in a child process, with its bus in memory, for ``voiceingest bench --self``.

What is on the bus goes to the parent over a Unix socket, each message with its length before it; the
first one says where the daemon is. When the socket closes, the daemon stops.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import UNIXClientEndpoint, UNIXServerEndpoint
from twisted.internet.error import CannotListenError, ProcessExitedAlready
from twisted.internet.interfaces import IPushProducer
from twisted.internet.process import reapAllProcesses
from twisted.internet.protocol import Factory, ProcessProtocol, connectionDone
from twisted.internet.task import deferLater
from twisted.protocols.basic import Int32StringReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from .failures import CommandFailed
from .reading import Reader, Received, read_json
from .running import Interrupt, run
from .target import Target

TENANT: Final = "bench"
_ROOT: Final = str(Path(__file__).resolve().parents[2])
TOKEN_LIFETIME_S: Final = 24 * 3600.0
MESSAGE_MAX_BYTES: Final = 4 * 1024 * 1024
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0
LAST_WORDS_CHARS: Final = 2000
_REAP_S: Final = 0.05

# What may lie in the pipe; a parent that is so far behind measures nothing.
BEHIND_MAX_BYTES: Final = 256 * 1024 * 1024


@implementer(IPushProducer)
class _Pipe(Int32StringReceiver):
    """The child's end: messages go out; a parent that does not read them in time is left."""

    MAX_LENGTH = MESSAGE_MAX_BYTES

    def __init__(self) -> None:
        self.lost: Deferred[None] = Deferred()
        self._behind_bytes: int | None = None

    def connectionMade(self) -> None:
        """Twisted's hook."""
        transport: Any = self.transport
        transport.registerProducer(self, True)

    def tell(self, message: bytes) -> None:
        """Send one message."""
        if self._behind_bytes is not None:
            self._behind_bytes += len(message)
            if self._behind_bytes > BEHIND_MAX_BYTES:
                transport: Any = self.transport
                transport.abortConnection()
                return
        self.sendString(message)

    def pauseProducing(self) -> None:
        """The transport holds more than its high-water mark."""
        self._behind_bytes = 0

    def resumeProducing(self) -> None:
        """The transport has written everything."""
        self._behind_bytes = None

    def stopProducing(self) -> None:
        """The transport closes."""

    def stringReceived(self, string: bytes) -> None:
        """Nothing is said to the child."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted's hook: the parent is gone, or done."""
        if not self.lost.called:
            self.lost.callback(None)


async def play(reactor: Any, interrupt: Interrupt, socket_path: str) -> None:
    """The child's part: be a daemon until the parent hangs up."""
    from .stage import Stage

    # Neither TLS nor a limit on the pace: what is measured is the way of the audio.
    stage = Stage(reactor, TENANT, secure=False, overrides={"ingest_max_realtime_factor": 0.0})
    try:
        await stage.up()
        interrupt.take_signals(reactor)
        factory = Factory.forProtocol(_Pipe)
        factory.noisy = False
        pipe: Any = await UNIXClientEndpoint(reactor, socket_path).connect(factory)
        facts = {"port": stage.port, "token": stage.token(TOKEN_LIFETIME_S)}
        pipe.tell(json.dumps(facts).encode())
        unsubscribe = stage.subscribe(lambda channel, payload: pipe.tell(payload))
        await pipe.lost
        unsubscribe()
    finally:
        await stage.down()


class _Ear(Int32StringReceiver):
    """The parent's end."""

    MAX_LENGTH = MESSAGE_MAX_BYTES
    owner: Understudy

    def connectionMade(self) -> None:
        """Twisted's hook."""
        self.owner.connected(self)

    def stringReceived(self, string: bytes) -> None:
        """One message: the first says where the daemon is, the others are of the bus."""
        self.owner.heard(string)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Twisted's hook."""
        self.owner.hung_up()


class _Child(ProcessProtocol):
    """Keeps the child's last words."""

    def __init__(self) -> None:
        self.said = bytearray()
        self.ended: Deferred[None] = Deferred()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """Twisted's hook: something was written to standard output or error."""
        self.said = (self.said + data)[-LAST_WORDS_CHARS:]

    def processEnded(self, reason: Failure) -> None:
        """Twisted's hook."""
        self.ended.callback(None)


class Understudy(Reader):
    """The parent's side: start the child, know where its daemon is, hear its bus. An ``IReader``."""

    def __init__(self, reactor: Any, folder: Path, received: Received) -> None:
        super().__init__(reactor, lambda text: None)
        self._socket_path = str(folder / "bus.sock")
        self._received = received
        self._listening: Any = None
        self._ear: Any = None
        self._child = _Child()
        self._process: Any = None
        self._over: Deferred[None] = Deferred()
        self._facts: dict[str, Any] = {}

    @property
    def label(self) -> str:
        """Where the bus is."""
        return "the memory of a daemon in a child process"

    @property
    def target(self) -> Target:
        """Where a client connects."""
        return Target(False, "127.0.0.1", int(self._facts["port"]), "/v1/ingest")

    @property
    def token(self) -> str:
        """A token for :data:`TENANT`."""
        return str(self._facts["token"])

    async def up(self) -> None:
        """Start the child and wait until its daemon answers. Raises: ``CommandFailed``."""
        factory = Factory.forProtocol(type("_Bound", (_Ear,), {"owner": self}))
        factory.noisy = False
        try:
            self._listening = await UNIXServerEndpoint(self._reactor, self._socket_path).listen(factory)
        except CannotListenError as problem:
            # The path of a Unix socket has at most 107 bytes.
            text = f"no socket can be made at {self._socket_path}"
            raise CommandFailed(text, hint="let TMPDIR name a shorter path that can be written") from problem
        command = [sys.executable, "-m", __name__, self._socket_path]
        # The child finds this very package, wherever it was started from.
        places = [_ROOT, os.environ.get("PYTHONPATH", "")]
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
        self._process = self._reactor.spawnProcess(self._child, sys.executable, command, env=environ)
        self._child.ended.addCallback(lambda _: self.hung_up())
        timer = self._reactor.callLater(START_TIMEOUT_S, self.hung_up)
        try:
            await self.ready
        finally:
            if timer.active():
                timer.cancel()

    async def down(self) -> None:
        """Stop the child and wait for its end."""
        if self._process is None:
            return
        self.stop()
        timer = self._reactor.callLater(STOP_TIMEOUT_S, self._kill)
        while not self._child.ended.called:
            # Nobody takes SIGCHLD here (running.py): Twisted looks once, when the pipes close, and that
            # may be a moment before the child has ended.
            reapAllProcesses()
            await deferLater(self._reactor, _REAP_S)
        if timer.active():
            timer.cancel()
        listening, self._listening = self._listening, None
        if listening is not None:
            await maybeDeferred(listening.stopListening)

    def _kill(self) -> None:
        if self._process is None:
            return
        try:
            self._process.signalProcess("KILL")
        except ProcessExitedAlready:
            return

    async def _listen(self) -> None:
        await self._over
        if not self._stopped:
            raise CommandFailed("the daemon in the child process is gone", hint=self._last_words())

    def _hang_up(self) -> None:
        if self._ear is not None:
            self._ear.transport.loseConnection()
        else:
            self._kill()
        self.hung_up()

    def _last_words(self) -> str | None:
        words = self._child.said.decode(errors="replace").strip().splitlines()
        return words[-1] if words else None

    # --- what the child says

    def connected(self, ear: Any) -> None:
        """The child has come."""
        self._ear = ear

    def heard(self, message: bytes) -> None:
        """One message of the child."""
        if self._facts:
            self._received(read_json(message))
        else:
            self._facts = json.loads(message)
            self._is_ready()

    def hung_up(self) -> None:
        """The child is gone, or did not come in time."""
        if not self.ready.called:
            self.ready.errback(CommandFailed("the child process did not come up", hint=self._last_words()))
        if not self._over.called:
            self._over.callback(None)


def main() -> None:
    """The child process: ``python -m voiceingest.cli.understudy SOCKET``."""
    run(lambda reactor, interrupt: play(reactor, interrupt, sys.argv[1]))


if __name__ == "__main__":
    main()
