"""NATS JetStream as a bus: messages written ahead of their acknowledgements, kept once, in order.

Every message carries ``Nats-Msg-Id``: what is sent again after a broken connection is recognised by
the stream, within its duplicate window, and kept once. Of one stream of audio only one message is on
the way at a time (see ``nats_window``): the order on JetStream's stream holds even when its leader
changes. The bus connects again by itself, to the next server of the URL; it is up when the server's
JetStream has a stream that takes our subjects and has a leader.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..aio import as_deferred
from ..errors import SettingsError
from ..interfaces import IBusListener, IDelayedCall, StreamFacts
from .nats_message import SUBJECT_MAX_CHARS, Prepared
from .nats_subjects import check_template
from .nats_url import nats_tls, parse_nats_url, read_credentials
from .nats_window import Window
from .retry import RETRY_FIRST_S, Backoff

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..metrics import Metrics
    from .nats_link import NatsLink

# A message without an answer, so long after it was written, while younger ones have theirs, is lost:
# the leader it went to is no more. It is sent again before PUBLISH_REPLY_TIMEOUT_S.
_PASSED_OVER_S: Final = 1.0


class NatsJetStream:
    """Provides ``IBus`` over one JetStream, of one server or a cluster."""

    name = "nats"
    _log = Logger()

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        metrics: Metrics,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """``jitter`` answers 0..1; ``metrics`` are unused. Raises: ``SettingsError``, ``BadCertificate``."""
        _check(settings)
        from .nats_link import Access

        self._reactor = reactor
        self._settings = settings
        url = parse_nats_url(settings.bus_url)
        self._access = Access(
            url=url,
            tls=nats_tls(settings.nats_ca_path),
            credentials_path=settings.nats_credentials_path,
            timeout_s=settings.publish_connect_timeout_s,
        )
        self._backoff = Backoff(RETRY_FIRST_S, settings.publish_retry_max_s, jitter)
        # Not all daemons begin with the first of the list.
        self._server = int(jitter() * len(url.servers))
        self._tried = 0
        self._listener: IBusListener
        self._link: NatsLink | None = None
        self._open: set[NatsLink] = set()
        self._attempt: Deferred[Any] | None = None
        self._calls: dict[str, IDelayedCall] = {}
        self._window = Window()
        self._subject_max_chars = SUBJECT_MAX_CHARS
        self._following: list[bytes] = []
        self._report_is_due = False
        self._differences: tuple[str, ...] = ()
        self._is_stopping = False
        self.writable = False

    # --- IBus

    def start(self, listener: IBusListener) -> None:
        """Begin to connect, in the background."""
        self._listener = listener
        self._connect()

    def stop(self) -> Deferred[None]:
        """Close the connection; fires when it is gone."""
        self._is_stopping = True
        link, all_answered = self._link, not len(self._window)
        self._detach()
        if self._attempt is not None:
            self._attempt.cancel()
        for one in tuple(self._open):
            if one is link and all_answered:
                one.close()
            else:
                one.abort()
        return gatherResults([one.gone for one in self._open]).addCallback(lambda _: None)

    def prepare(self, facts: StreamFacts) -> Prepared:
        """Encode once what every message of a stream has in common."""
        return Prepared(self._settings, facts)

    def send(self, batch: Sequence[tuple[Prepared, int, int, bytes]]) -> int:
        """Write a batch in order, in one write; returns its bytes."""
        link = self._link
        if link is None:
            # Only between bus_up and bus_down; what was not sent will not be confirmed either.
            raise RuntimeError("send on a bus that is down")
        window, inbox, now = self._window, link.inbox, self._reactor.seconds()
        message_max_bytes = link.message_max_bytes
        parts: list[bytes] = []
        size_bytes = 0
        for lane, seq, timestamp_ms, payload in batch:
            reply = b"%b%d" % (inbox, window.number())
            head, body, message_bytes = lane.message(reply, seq, timestamp_ms, payload)
            if message_bytes > message_max_bytes or lane.subject_chars > self._subject_max_chars:
                window.add_refused(lane, "too_big")
                self._report_soon()
                continue
            size_bytes += len(head) + len(body) + 2
            if window.is_busy(lane):
                window.hold(lane, b"%b%b\r\n" % (head, body))
            else:
                window.add(lane, now)
                parts += (head, body, b"\r\n")
        if parts:
            link.write(b"".join(parts))
        return size_bytes

    def drop_connection(self, reason: str) -> None:
        """Cut the connection at once; the listener hears ``bus_down(reason)`` before this returns."""
        link, self._link = self._link, None
        if link is not None:
            link.abort()
            self._down(reason)

    # --- what the link tells

    def link_answered(self, link: NatsLink, number: int, answer: bytes, headers: bytes | None) -> None:
        """Take one answer of JetStream; the delivery hears of all that came in one read together."""
        if link is not self._link:
            return
        verdict = ""
        # One with an error begins with it (nats-server, JSPubAckResponse); a duplicate is on the stream.
        if headers or not answer.startswith(b'{"stream":'):
            from .nats_stream import verdict_of

            verdict, about_message = verdict_of(answer, headers)
            if not about_message:
                # What was taken before it counts, or the same read would end the same way for ever.
                self._report(link)
                self.link_broken(link, verdict)
                return
        following = self._window.answered(number, verdict, self._reactor.seconds())
        if following is not None:
            self._following.append(following)
        self._report_soon()

    def link_broken(self, link: NatsLink, reason: str) -> None:
        """The connection is gone or useless."""
        if link is self._link:
            if reason == "control_line":
                # Its limit is a smaller one, and of all that is sent again the longest is over it.
                sent = (lane.subject_chars for lane in self._window.lanes)
                most = self._subject_max_chars
                self._subject_max_chars = max((n for n in sent if n <= most), default=most + 1) - 1
            self.drop_connection(reason)

    def link_writable(self, link: NatsLink, writable: bool) -> None:
        """Back-pressure of the transport."""
        if link is self._link:
            self.writable = writable
            if writable:
                self._listener.bus_writable()

    # --- answers

    def _report_soon(self) -> None:
        if not self._report_is_due:
            self._report_is_due = True
            asyncio.get_running_loop().call_soon(self._report, self._link)

    def _report(self, link: NatsLink | None) -> None:
        """Write what waited for an answer; confirm and refuse, in the order of sending."""
        if link is None or link is not self._link:
            return
        self._report_is_due = False
        following, self._following = self._following, []
        if following:
            link.write(b"".join(following))
        for run in self._window.settle():
            if isinstance(run, str):
                self._listener.bus_refused(run)
            else:
                if self._backoff.worked(self._reactor.seconds()):
                    self._tried = 0
                self._listener.bus_confirmed(run)
            if link is not self._link:
                return

    def _look_for_lost(self) -> None:
        self._put_off("look", _PASSED_OVER_S / 2, self._look_for_lost)
        if self._window.passed_over(self._reactor.seconds() - _PASSED_OVER_S):
            self.drop_connection("passed_over")

    # --- connecting

    def _connect(self) -> None:
        servers = self._access.url.servers
        self._attempt = as_deferred(self._introduce(*servers[self._server % len(servers)]))
        # One limit for all of it: name, TCP, TLS, introduction, the look at the stream.
        self._attempt.addTimeout(self._access.timeout_s, self._reactor)
        self._attempt.addCallbacks(self._connected, self._not_connected)

    async def _introduce(self, host: str, port: int) -> NatsLink:
        from .nats_link import NatsLink
        from .nats_stream import ready_stream

        link = NatsLink(host, port, self._access, self, self._reactor)
        self._open.add(link)
        link.gone.addBoth(lambda _: self._open.discard(link))
        try:
            await link.open()
            state = await ready_stream(link.client.jetstream(timeout=self._access.leader_s), self._settings)
        except BaseException:
            link.abort()
            raise
        if state.differences and state.differences != self._differences:
            self._log.warn(
                "The JetStream stream is not as the settings say; it is left as it is: {differences}",
                event="nats_stream_differs",
                differences="; ".join(state.differences),
            )
        self._differences = state.differences
        return link

    def _connected(self, link: NatsLink) -> None:
        self._attempt = None
        if self._is_stopping or link.ended is not None:
            link.abort()
            self._down(link.ended or "stopped")
            return
        self._link = link
        self._backoff.connected(self._reactor.seconds())
        self._window = Window()
        self._following = []
        self._report_is_due = False
        self.writable = True
        self._put_off("look", _PASSED_OVER_S / 2, self._look_for_lost)
        self._listener.bus_up()

    def _not_connected(self, failure: Failure) -> None:
        from .nats_link import reason_of

        self._attempt = None
        if self._is_stopping and failure.check(CancelledError):
            return
        reason = reason_of(failure.value)
        if reason is None:
            # The class only: a text may hold what we said to the server.
            kind = type(failure.value).__name__
            self._log.error("Connecting failed in an unknown way", event="bus_connect_failed", error=kind)
        self._down(reason or "unknown")

    def _down(self, reason: str) -> None:
        self._detach()
        if self._is_stopping:
            return
        self._server += 1
        self._tried += 1
        # The next server at once; when all have had their turn, after a pause.
        all_tried = self._tried >= len(self._access.url.servers)
        self._put_off("retry", self._backoff.failed() if all_tried else 0.0, self._connect)
        self._listener.bus_down(reason)

    def _detach(self) -> None:
        self._link = None
        self.writable = False
        for call in self._calls.values():
            if call.active():
                call.cancel()

    def _put_off(self, what: str, seconds: float, call: Callable[[], None]) -> None:
        self._calls[what] = self._reactor.callLater(seconds, call)


def _check(settings: Settings) -> None:
    """Raises: ``SettingsError``; where something is not installed, with the command that does it."""
    if find_spec("nats") is None:
        raise SettingsError(["publish_url: NATS is an extra: pip install 'voiceingest[nats]'"])
    check_template("nats_subject", settings.nats_subject)
    check_template("nats_events_subject", settings.nats_events_subject)
    if settings.nats_credentials_path is not None:
        read_credentials(settings.nats_credentials_path)
