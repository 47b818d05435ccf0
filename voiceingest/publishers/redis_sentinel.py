"""Which Redis is the primary: every sentinel is asked once a second, the newest answer counts.

A sentinel that was cut off goes on naming the primary it knew. Each answer is therefore taken with the
``config-epoch`` of its sentinel, which grows with each fail-over, and the highest wins. Asking goes on
while the primary is in use: this is how one that is frozen, or cut off from its sentinels, is noticed
(redis.io/docs/latest/operate/oss_and_stack/management/sentinel and .../reference/sentinel-clients,
read 2026-11-20).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..interfaces import IDelayedCall
from ..wire.resp import Run
from .redis_dial import Dialer
from .redis_link import BusRefusal, Login, RedisLink, reason_of
from .redis_url import RedisUrl

if TYPE_CHECKING:
    from ..config.settings import Settings

# Pause between two questions to a sentinel.
POLL_S: Final = 1.0

# How long a sentinel may take over one answer, connecting included.
ANSWER_MAX_S: Final = 1.0

# At the start: how long after the first answer the others are still waited for.
GRACE_S: Final = 0.25

# A name or an address, and no more than may be looked up: nothing else is tried, or logged.
_HOST: Final = re.compile(r"[A-Za-z0-9._:%-]{1,253}")

# 64 bits (sentinel.c, config_epoch).
_EPOCH: Final = re.compile(rb"[0-9]{1,20}")

Address = tuple[str, int]


class Vote(NamedTuple):
    """What one sentinel says: who leads, and by which configuration."""

    epoch: int
    address: Address


class Sentinels:
    """All sentinels of one URL, and what they say together."""

    _log = Logger()

    def __init__(self, settings: Settings, url: RedisUrl, reactor: Any, moved: Callable[[], None]) -> None:
        """``moved`` is called when another primary is named than the one ``find`` gave last.

        Raises: ``BadCertificate``.
        """
        secret = settings.redis_sentinel_password
        password = secret.get_secret_value() if secret is not None else None
        login = Login(settings.redis_sentinel_username, password)
        answer_s = min(ANSWER_MAX_S, settings.publish_connect_timeout_s)
        self._reactor = reactor
        self._dialer = Dialer(reactor, url, answer_s, settings.redis_ca_path)
        self._sentinels = [
            Sentinel(address, url.service, login, self._dialer, reactor, answer_s, self._heard)
            for address in url.sentinels
        ]
        self._moved = moved
        self._waiting: list[Deferred[None]] = []
        self._grace_call: IDelayedCall | None = None
        # False until all have spoken, or have had their time to.
        self._is_settled = False
        self._is_silent = False
        self._aim: Vote | None = None
        self._newest_epoch = 0

    def start(self) -> None:
        """Begin to ask."""
        for sentinel in self._sentinels:
            sentinel.ask()

    def stop(self) -> Deferred[None]:
        """Ask no more; fires when the connections are gone."""
        if self._grace_call is not None and self._grace_call.active():
            self._grace_call.cancel()
        for sentinel in self._sentinels:
            sentinel.stop()
        return self._dialer.close()

    async def find(self) -> Address:
        """Where the primary is. Raises: ``BusRefusal`` when the sentinels cannot tell."""
        self._aim = None
        if not self._is_settled:
            settled: Deferred[None] = Deferred()
            self._waiting.append(settled)
            await settled
        newest = self._newest()
        if newest is None:
            raise BusRefusal(f"sentinel_{self._sentinels[0].reason}")
        if newest.epoch < self._newest_epoch and not all(one.vote for one in self._sentinels):
            # Who knew better is away. All of them together may know less: they have been made anew.
            raise BusRefusal("sentinel_stale")
        self._newest_epoch = newest.epoch
        self._aim = newest
        return newest.address

    def _newest(self) -> Vote | None:
        """The answer with the highest epoch; of several, the one that changes nothing."""
        votes = [one.vote for one in self._sentinels if one.vote is not None]
        aimed_at = self._aim.address if self._aim is not None else None
        return max(votes, key=lambda vote: (vote.epoch, vote.address == aimed_at), default=None)

    def _heard(self) -> None:
        """A sentinel has answered, or has not."""
        newest = self._newest()
        self._note_silence(newest is None)
        if not self._is_settled:
            if all(one.has_spoken for one in self._sentinels):
                self._settle()
            elif newest is not None and self._grace_call is None:
                self._grace_call = self._reactor.callLater(GRACE_S, self._settle)
            return
        if newest is None or newest.epoch < self._newest_epoch:
            return
        aim, self._aim, self._newest_epoch = self._aim, newest, newest.epoch
        if aim is None or newest.address != aim.address:
            host, port = newest.address
            self._log.info("The sentinels name a primary", event="primary_named", host=host, port=port)
            self._moved()

    def _settle(self) -> None:
        if self._grace_call is not None and self._grace_call.active():
            self._grace_call.cancel()
        self._is_settled = True
        waiting, self._waiting = self._waiting, []
        for settled in waiting:
            settled.callback(None)

    def _note_silence(self, is_silent: bool) -> None:
        """Without sentinels a Redis in use stays in use, but a fail-over would go unnoticed: say so."""
        if is_silent and not self._is_silent and all(one.has_spoken for one in self._sentinels):
            self._is_silent = True
            reason = self._sentinels[0].reason
            self._log.warn("No sentinel answers", event="sentinels_lost", reason=reason)
        elif not is_silent and self._is_silent:
            self._is_silent = False
            self._log.info("A sentinel answers again", event="sentinels_back")


class Sentinel:
    """One sentinel, asked again and again over one connection; an ``ILinkOwner``."""

    _log = Logger()

    def __init__(
        self,
        address: Address,
        service: str,
        login: Login,
        dialer: Dialer,
        reactor: Any,
        answer_s: float,
        heard: Callable[[], None],
    ) -> None:
        self._address = address
        self._service = service
        self._login = login
        self._dialer = dialer
        self._reactor = reactor
        self._answer_s = answer_s
        self._heard = heard
        self._link: RedisLink | None = None
        self._question: Deferred[Any] | None = None
        self._next_call: IDelayedCall | None = None
        self._is_stopping = False
        self.has_spoken = False
        self.vote: Vote | None = None
        self.reason = "silent"

    def ask(self) -> None:
        """Ask now, and again a second after the answer: never two questions at a time."""
        self._question = Deferred.fromCoroutine(self._answer())
        self._question.addTimeout(self._answer_s, self._reactor)
        self._question.addCallbacks(self._voted, self._failed)

    def stop(self) -> None:
        """Ask no more."""
        self._is_stopping = True
        if self._next_call is not None and self._next_call.active():
            self._next_call.cancel()
        if self._question is not None:
            self._question.cancel()

    # --- what the link tells

    def link_replied(self, link: RedisLink, runs: list[Run]) -> None:
        """Never called: the link has not been told to count."""

    def link_broken(self, link: RedisLink, reason: str) -> None:
        """The next question is asked over another one."""
        if link is self._link:
            self._link = None

    def link_writable(self, link: RedisLink, writable: bool) -> None:
        """Never called, for the same reason."""

    # --- asking

    async def _answer(self) -> Vote:
        if self._link is None:
            self._link = await self._dialer.dial(self, *self._address, self._login)
        link, service = self._link, self._service
        # Both in one write: a sentinel answers them in one go, so they belong together. The address by
        # this command and not by the other: it names the new primary while replicas still move over.
        named = link.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service, otherwise="protocol")
        described = link.ask("SENTINEL", "MASTER", service, otherwise="protocol")
        # Whoever may not ask this one is answered without an epoch; the other answer tells the rest.
        described.addErrback(lambda failure: failure.trap(BusRefusal) and None)
        try:
            address, state = await gatherResults([named, described], consumeErrors=True)
        except FirstError as error:
            error.subFailure.raiseException()
        return Vote(_epoch(state), _address(address))

    def _voted(self, vote: Vote) -> None:
        self.vote = vote
        self._spoke()

    def _failed(self, failure: Failure) -> None:
        if self._is_stopping and failure.check(CancelledError):
            self._question = None
            return
        self.vote = None
        self.reason = reason_of(failure.value) or "unknown"
        link, self._link = self._link, None
        if link is not None:
            # An answer that comes late would be taken for that to the next question.
            link.abort()
        if self.reason == "unknown":
            kind = type(failure.value).__name__
            self._log.error("A sentinel failed in an unknown way", event="sentinel_failed", error=kind)
        self._spoke()

    def _spoke(self) -> None:
        self._question = None
        self.has_spoken = True
        if not self._is_stopping:
            self._next_call = self._reactor.callLater(POLL_S, self.ask)
            self._heard()


def _address(answer: Any) -> Address:
    """Raises: ``BusRefusal``."""
    if answer is None:
        raise BusRefusal("service")
    try:
        name, number = answer
        host, port = name.decode("ascii"), int(number)
    except (TypeError, ValueError, AttributeError):
        raise BusRefusal("protocol") from None
    if not _HOST.fullmatch(host) or not 0 < port < 65536:
        raise BusRefusal("protocol")
    return host, port


def _epoch(answer: Any) -> int:
    """The ``config-epoch`` in a flat list of names and values; 0 where there is none."""
    words = answer if isinstance(answer, list) else []
    pairs = zip(words[::2], words[1::2], strict=False)
    found = next((value for name, value in pairs if name == b"config-epoch"), b"0")
    return int(found) if isinstance(found, bytes) and _EPOCH.fullmatch(found) else 0
