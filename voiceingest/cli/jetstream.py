"""Reading NATS JetStream: an ephemeral consumer of the whole stream, made again where it ended.

The consumer is ours alone and acknowledges nothing. Every message has its place in the stream and its
place in the consumer: one that is skipped, or a consumer that is gone with its node, is answered with
a new consumer from the message after the last one (docs.nats.io, "Consumers").
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import CancelledError

from ..aio import as_deferred
from ..errors import BadCertificate, SettingsError
from ..publishers.nats_subjects import covers, pattern
from ..publishers.nats_url import NatsUrl, nats_tls, parse_nats_url
from .failures import CommandFailed, ConnectionFailed, Exit, UsageFailed
from .reading import BusMessage, Reader, Received, Say, read_json
from .target import CONNECT_TIMEOUT_S

CHECK_EVERY_S: Final = 2.0
ANSWER_MAX_S: Final = 5.0
# A consumer nobody listens to is taken away by the server after so long.
INACTIVE_S: Final = 60.0
PENDING_MAX_COUNT: Final = 65_536
PENDING_MAX_BYTES: Final = 128 * 1024 * 1024
_EPOCH: Final = "Voiceingest-Epoch"


class _Again(Exception):
    """The consumer is of no use any more; the text says why."""


def parse_url(text: str) -> NatsUrl:
    """A NATS URL. Raises: ``UsageFailed``, which repeats nothing of it."""
    try:
        return parse_nats_url(text)
    except SettingsError as wrong:
        problem = wrong.problems[0].partition(": ")[2]
        raise UsageFailed(f"--url {problem}", hint="nats[+tls]://[user:password@]host[:port]") from None


def read_message(data: bytes, headers: dict[str, str] | None) -> BusMessage:
    """Read one message. Any bytes have an answer."""
    said = (headers or {}).get(_EPOCH, "")
    return read_json(data, int(said) if said.isdigit() else None)


@dataclass(frozen=True, slots=True)
class Source:
    """What is read, and how to be let in; ``templates`` are those of the subjects."""

    url: NatsUrl
    stream: str
    templates: list[str]
    from_start: bool = False
    ca: Path | None = None
    credentials: Path | None = None


class JetStreamReader(Reader):
    """Delivers the messages of a stream whose subjects ``templates`` can make."""

    _consequence = "it goes on with the message after the last one"

    def __init__(self, reactor: Any, source: Source, received: Received, say: Say) -> None:
        """Raises: ``UsageFailed`` when nats-py or the certificate is not there."""
        super().__init__(reactor, say)
        self._library = _library()
        self._url = source.url
        self._stream = source.stream
        self._subjects = [pattern(template) for template in source.templates]
        self._received = received
        self._credentials = source.credentials
        try:
            self._tls = nats_tls(source.ca)
        except BadCertificate as wrong:
            raise UsageFailed(f"--ca {source.ca} cannot be read as PEM certificates") from wrong
        # The place in the stream of the last message read; None: from where it ends now.
        self._last: int | None = 0 if source.from_start else None
        self._in_consumer = 0
        self._waited_for_stream = False
        self._failure: asyncio.Future[None] | None = None

    @property
    def label(self) -> str:
        """Where the servers are, without how to be let in."""
        return ",".join(f"{host}:{port}" for host, port in self._url.servers)

    def _hang_up(self) -> None:
        """What is waited for is cancelled by ``stop``; that ends the connection."""

    async def _listen(self) -> None:
        try:
            await self._wait(as_deferred(self._session()))
        except _Again as again:
            self._broke(str(again))
        except CancelledError:
            if not self._stopped:
                raise

    # --- asyncio from here on

    async def _session(self) -> None:
        client = await self._connect()
        try:
            await self._consume(client)
        finally:
            await _shut(client)

    async def _connect(self) -> Any:
        url, client = self._url, self._library.NATS()
        scheme = "tls" if url.tls else "nats"
        servers = [f"{scheme}://{f'[{h}]' if ':' in h else h}:{port}" for h, port in url.servers]
        try:
            # nats-py tries every server again and again for as long as it is let.
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await client.connect(
                    servers=servers,
                    error_cb=self._client_error,
                    closed_cb=self._closed,
                    name="voiceingest tail",
                    allow_reconnect=False,
                    connect_timeout=2,
                    max_reconnect_attempts=1,
                    tls=self._tls if url.tls else None,
                    user=url.username,
                    password=url.password,
                    token=url.token,
                    user_credentials=None if self._credentials is None else str(self._credentials),
                )
        except Exception as problem:
            if not isinstance(problem, (OSError, TimeoutError, self._library.errors.Error)):
                raise
            await _shut(client)
            raise self._not_connected(problem) from problem
        return client

    def _not_connected(self, problem: Exception) -> CommandFailed:
        if "Authorization" in str(problem) or "authorization" in str(problem):
            return CommandFailed(
                f"{self.label} does not let us in",
                hint="nats://user:password@host, nats://token@host or --credentials FILE",
                exit_code=Exit.REFUSED,
            )
        return ConnectionFailed(
            f"no NATS server can be reached at {self.label}",
            reason="refused",
            hint="is the server running, and is the port right? With TLS the scheme is nats+tls",
        )

    async def _client_error(self, problem: Exception) -> None:
        """What nats-py could not do; that a connection is gone is told by ``_closed``."""
        if "Permissions" in str(problem) or "permissions" in str(problem):
            hint = "the user needs $JS.API.> and _INBOX.>"
            self._fail(CommandFailed("NATS does not let us read", hint=hint))

    async def _closed(self) -> None:
        self._fail(_Again("lost"))

    def _fail(self, problem: Exception) -> None:
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(problem)

    async def _consume(self, client: Any) -> None:
        self._failure = asyncio.get_running_loop().create_future()
        context = client.jetstream(timeout=ANSWER_MAX_S)
        try:
            await self._stream_is_there(context)
            subscription = await self._subscribe(context)
            self._is_ready()
            while True:
                done, _ = await asyncio.wait([self._failure], timeout=CHECK_EVERY_S)
                for failed in done:
                    failed.result()
                # The node that has the consumer may be gone while ours is there.
                await subscription.consumer_info()
        except (self._library.errors.Error, OSError, TimeoutError) as problem:
            # A future that has failed and is not looked at complains on standard error.
            self._failure.cancel()
            raise _Again(type(problem).__name__) from problem
        finally:
            if self._failure.done() and not self._failure.cancelled():
                self._failure.exception()
            self._failure = None

    async def _stream_is_there(self, context: Any) -> None:
        """Wait for the stream; know from which message on it is read."""
        while True:
            try:
                info = await context.stream_info(self._stream)
                break
            except self._library.js.errors.NotFoundError:
                if not self._waited_for_stream:
                    self._waited_for_stream = True
                    self._say(f"there is no stream {self._stream} at {self.label} yet; waiting for it")
                # All that will be in it comes after now.
                self._last = self._last or 0
                self._is_ready()
                await asyncio.sleep(CHECK_EVERY_S / 4)
        if self._last is None or info.state.last_seq < self._last:
            self._last = info.state.last_seq if self._last is None else 0

    async def _subscribe(self, context: Any) -> Any:
        api = self._library.js.api
        self._in_consumer = 0
        config = api.ConsumerConfig(
            deliver_policy=api.DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=(self._last or 0) + 1,
            ack_policy=api.AckPolicy.NONE,
            max_deliver=1,
            inactive_threshold=INACTIVE_S,
            mem_storage=True,
            num_replicas=1,
        )
        return await context.subscribe(
            ">",
            stream=self._stream,
            config=config,
            cb=self._message,
            manual_ack=True,
            pending_msgs_limit=PENDING_MAX_COUNT,
            pending_bytes_limit=PENDING_MAX_BYTES,
        )

    async def _message(self, message: Any) -> None:
        place = message.metadata.sequence
        if place.consumer != self._in_consumer + 1:
            # More was on its way than nats-py holds.
            self._fail(_Again("too slow"))
            return
        self._in_consumer, self._last = place.consumer, place.stream
        if any(covers(wide, message.subject) for wide in self._subjects):
            try:
                self._received(read_message(message.data, message.headers))
            except Exception as problem:
                # nats-py would log it and go on.
                self._fail(problem)


async def _shut(client: Any) -> None:
    try:
        async with asyncio.timeout(1.0):
            await client.close()
    except (OSError, TimeoutError):
        # The server does not answer any more: the sockets go with the process.
        return


def _library() -> Any:
    try:
        import nats
        import nats.errors
        import nats.js.api
        import nats.js.errors
    except ImportError as missing:
        raise UsageFailed(
            "to read JetStream nats-py has to be installed", hint="pip install 'voiceingest[nats]'"
        ) from missing
    return nats
