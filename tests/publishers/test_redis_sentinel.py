"""Which sentinel is believed, without any: what real ones do is in tests/integration."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import SecretStr
from twisted.internet import error
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher

from tests.publishers.contract import NotingListener
from tests.publishers.fakes import make_settings
from tests.support.case import SynchronousTestCase
from voiceingest.metrics import Metrics
from voiceingest.publishers import redis_bus, redis_sentinel
from voiceingest.publishers.redis_link import BusRefusal
from voiceingest.publishers.redis_pubsub import RedisPubSub
from voiceingest.publishers.redis_sentinel import ANSWER_MAX_S, GRACE_S, POLL_S, Sentinels
from voiceingest.publishers.redis_url import parse_redis_url

SECRET = "s3cr3t-canary"
A, B = ("10.0.0.1", 6379), ("10.0.0.2", 6380)


class FakeLink:
    """Answers what the test says: ``(epoch, address)``, an exception, or nothing at all."""

    def __init__(self, places: dict[str, Any], host: str) -> None:
        self.places = places
        self.host = host
        self.asked: list[tuple[Any, ...]] = []
        self.is_aborted = False

    def ask(self, *words: Any, otherwise: str, enough: str = "") -> Deferred[Any]:
        self.asked.append(words)
        says = self.places[self.host]
        if isinstance(says, Exception):
            return fail(says)
        if says is None:
            return Deferred()
        epoch, address = says
        if words[1] == "MASTER":
            return fail(BusRefusal("protocol")) if epoch is None else succeed(_described(epoch))
        if not isinstance(address, tuple):
            return succeed(address)
        return succeed([address[0].encode(), b"%d" % address[1]])

    def abort(self) -> None:
        self.is_aborted = True


def _described(epoch: int) -> list[bytes]:
    return [b"name", b"voice", b"config-epoch", b"%d" % epoch, b"quorum", b"2"]


class FakeDialer:
    """Connects to what is in ``places``: sentinels by host; the rest never answers."""

    places: ClassVar[dict[str, Any]]
    links: ClassVar[list[FakeLink]]
    logins: ClassVar[list[Any]]

    def __init__(self, reactor: Any, url: Any, timeout_s: float, ca_path: Any) -> None:
        self.dialled: list[tuple[str, int]] = []

    async def dial(self, owner: Any, host: str, port: int, login: Any, **_: Any) -> FakeLink:
        self.dialled.append((host, port))
        type(self).logins.append(login)
        if host not in self.places:
            await Deferred()
        if isinstance(self.places[host], error.ConnectError):
            raise self.places[host]
        link = FakeLink(self.places, host)
        type(self).links.append(link)
        return link

    def close(self, in_order: Any = None) -> Deferred[None]:
        return succeed(None)


class SentinelCase(SynchronousTestCase):
    URL = f"redis+sentinel://:{SECRET}@s1,s2,s3:5/voice"

    def setUp(self) -> None:
        self.clock = Clock()
        self.places: dict[str, Any] = {}
        FakeDialer.places, FakeDialer.links, FakeDialer.logins = self.places, [], []
        self.patch(redis_sentinel, "Dialer", FakeDialer)
        self.lines: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.lines.append)

    def say(self, *says: Any) -> None:
        """What s1, s2 and s3 say from now on."""
        self.places.update(zip(("s1", "s2", "s3"), says, strict=True))

    def told(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("event") == event]


class SentinelsTests(SentinelCase):
    def make(self, **settings: Any) -> None:
        self.moves: list[float] = []
        config = make_settings(**settings)
        self.sentinels = Sentinels(
            config, parse_redis_url(self.URL), self.clock, lambda: self.moves.append(self.clock.seconds())
        )
        self.sentinels.start()

    def found(self) -> Any:
        return self.successResultOf(Deferred.fromCoroutine(self.sentinels.find()))

    def refused(self) -> str:
        failure = self.failureResultOf(Deferred.fromCoroutine(self.sentinels.find()), BusRefusal)
        return failure.value.reason

    def test_all_are_asked_by_name_and_with_their_own_password(self) -> None:
        self.say((1, A), (1, A), (1, A))
        self.make(redis_sentinel_username="watch", redis_sentinel_password=SecretStr("other-canary"))
        self.assertEqual(self.found(), A)
        self.assertEqual({tuple(login) for login in FakeDialer.logins}, {("watch", "other-canary", 0)})
        words = [("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "voice"), ("SENTINEL", "MASTER", "voice")]
        self.assertEqual([link.asked for link in FakeDialer.links], [words] * 3)

    def test_the_newest_configuration_counts_not_the_majority(self) -> None:
        self.say((7, A), (8, B), (7, A))
        self.make()
        self.assertEqual(self.found(), B)

    def test_at_the_start_the_others_are_waited_for_a_moment(self) -> None:
        self.say(None, (7, A), None)
        self.make()
        finding = Deferred.fromCoroutine(self.sentinels.find())
        self.clock.advance(GRACE_S - 0.01)
        self.assertNoResult(finding)
        self.clock.advance(0.02)
        self.assertEqual(self.successResultOf(finding), A)
        self.assertEqual(self.moves, [])

    def test_nobody_answers(self) -> None:
        for says, reason in (
            (error.ConnectionRefusedError(), "sentinel_refused"),
            (BusRefusal("auth"), "sentinel_auth"),
            ((1, None), "sentinel_service"),
            ((1, 17), "sentinel_protocol"),
            ((1, [b"x", b"y"]), "sentinel_protocol"),
            (ZeroDivisionError(SECRET), "sentinel_unknown"),
        ):
            self.setUp()
            self.say(says, says, says)
            self.make()
            self.assertEqual(self.refused(), reason)
            self.assertEqual([line["reason"] for line in self.told("sentinels_lost")], [reason[9:]])
            self.assertNotIn(SECRET, repr(self.lines))

    def test_one_that_says_nothing_is_left_and_asked_again(self) -> None:
        self.say(None, None, None)
        self.make()
        finding = Deferred.fromCoroutine(self.sentinels.find())
        self.clock.advance(ANSWER_MAX_S + 0.01)
        self.assertEqual(self.failureResultOf(finding, BusRefusal).value.reason, "sentinel_timeout")
        self.assertTrue(all(link.is_aborted for link in FakeDialer.links))
        self.say((1, A), None, None)
        self.clock.advance(POLL_S)
        self.assertEqual(self.found(), A)
        self.assertEqual((len(self.told("sentinels_lost")), len(self.told("sentinels_back"))), (1, 1))

    def test_a_connection_is_kept_between_questions(self) -> None:
        self.say((1, A), (1, A), (1, A))
        self.make()
        self.found()
        self.clock.pump([POLL_S] * 5)
        self.assertEqual(len(FakeDialer.links), 3)
        self.assertEqual(len(FakeDialer.links[0].asked), 2 * 6)
        self.assertEqual(self.moves, [])

    def test_a_broken_connection_is_made_again_for_the_next_question(self) -> None:
        self.say((1, A), (1, A), (1, A))
        self.make()
        first = self.sentinels._sentinels[0]
        first.link_broken(FakeDialer.links[0], "lost")
        self.assertEqual(self.found(), A)
        self.clock.advance(POLL_S)
        self.assertEqual(len(FakeDialer.links), 4)

    def test_another_primary_is_told_once_it_is_found(self) -> None:
        self.say((1, A), (1, A), (1, A))
        self.make()
        self.found()
        self.say((1, A), (2, B), (1, A))
        self.clock.advance(POLL_S)
        self.clock.pump([POLL_S] * 3)
        self.assertEqual(self.moves, [POLL_S])
        self.assertEqual(self.found(), B)
        self.assertEqual([line["port"] for line in self.told("primary_named")], [B[1]])

    def test_one_that_is_behind_is_not_followed_back(self) -> None:
        self.say((1, A), (2, B), (2, B))
        self.make()
        self.assertEqual(self.found(), B)
        self.say((1, A), error.ConnectionRefusedError(), error.ConnectionRefusedError())
        for link in FakeDialer.links[1:]:
            self.sentinels._sentinels[FakeDialer.links.index(link)].link_broken(link, "lost")
        self.clock.pump([POLL_S] * 3)
        self.assertEqual(self.moves, [])
        self.assertEqual(self.refused(), "sentinel_stale")
        self.say((1, A), (2, B), error.ConnectionRefusedError())
        self.clock.advance(POLL_S)
        # It is told at once that somebody knows again.
        self.assertEqual(len(self.moves), 1)
        self.assertEqual(self.found(), B)

    def test_sentinels_that_were_made_anew_count_when_all_of_them_say_so(self) -> None:
        self.say((9, B), (9, B), (9, B))
        self.make()
        self.assertEqual(self.found(), B)
        self.say((0, A), (0, A), (0, A))
        self.clock.advance(POLL_S)
        # As long as the one in use works it stays.
        self.assertEqual(self.moves, [])
        self.assertEqual(self.found(), A)
        self.clock.advance(POLL_S)
        self.assertEqual(self.moves, [])

    def test_two_names_for_one_primary_do_not_make_it_two(self) -> None:
        self.say((1, A), (1, ("redis-a", 6379)), (1, A))
        self.make()
        self.assertEqual(self.found(), A)
        self.clock.pump([POLL_S] * 3)
        self.assertEqual(self.moves, [])

    def test_a_sentinel_that_keeps_its_epoch_to_itself_is_believed(self) -> None:
        self.say((None, A), (None, A), (None, A))
        self.make()
        self.assertEqual(self.found(), A)
        self.say((None, B), (None, B), (None, B))
        self.clock.advance(POLL_S)
        self.assertEqual(self.found(), B)

    def test_stop_leaves_no_timer_and_says_nothing(self) -> None:
        for says in (None, (1, A)):
            self.setUp()
            self.say(says, says, says)
            self.make()
            self.clock.advance(0.1)
            self.successResultOf(self.sentinels.stop())
            self.assertEqual(self.clock.getDelayedCalls(), [])
        self.setUp()
        self.say(None, (1, A), None)
        self.make()
        self.successResultOf(self.sentinels.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.lines, [])


class FollowingTests(SentinelCase):
    """A bus over what the sentinels name; every connection to a redis stays under way."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(redis_bus, "Dialer", FakeDialer)
        self.say((1, A), (1, A), (1, A))
        config = make_settings(
            publish_url=SecretStr(self.URL), publish_connect_timeout_s=5.0, publish_retry_max_s=60.0
        )
        self.bus = RedisPubSub(config, self.clock, Metrics(), jitter=lambda: 1.0)
        self.listener = NotingListener()
        self.bus.start(self.listener)
        self.dialled = self.bus._dialer.dialled

    def test_it_dials_whom_they_name(self) -> None:
        self.assertEqual(self.dialled, [A])
        self.assertEqual(FakeDialer.logins[-1].password, SECRET)
        self.assertIsNone(FakeDialer.logins[0].password)

    def test_an_attempt_at_the_old_primary_is_given_up(self) -> None:
        self.say((2, B), (1, A), (1, A))
        self.clock.advance(POLL_S)
        self.assertEqual(self.listener.heard, [("down", "switched")])
        self.clock.advance(0.2)
        self.assertEqual(self.dialled, [A, B])

    def test_a_pause_of_a_minute_is_cut_short(self) -> None:
        self.places[A[0]] = error.ConnectionRefusedError()
        self.clock.pump([0.5] * 240)
        self.assertEqual(self.listener.heard[-1], ("down", "refused"))
        before = len(self.dialled)
        self.clock.advance(0.9)
        self.say((2, B), (2, B), (2, B))
        self.clock.advance(POLL_S)
        self.assertEqual(self.dialled[before:], [B])

    def test_when_no_sentinel_answers_the_reason_says_so(self) -> None:
        self.successResultOf(self.bus.stop())
        lost = error.ConnectionRefusedError()
        self.say(lost, lost, lost)
        self.bus = RedisPubSub(
            make_settings(publish_url=SecretStr(self.URL), publish_retry_max_s=60.0),
            self.clock, Metrics(), jitter=lambda: 1.0,
        )  # fmt: skip
        listener = NotingListener()
        self.bus.start(listener)
        self.clock.pump([0.5] * 240)
        self.assertEqual({*listener.heard}, {("down", "sentinel_refused")})
        self.assertLess(len(listener.heard), 20)
        # The first that is back is gone to at once, whatever the pause had been.
        self.say((1, A), lost, lost)
        self.clock.advance(POLL_S)
        self.assertEqual(self.bus._dialer.dialled, [A])

    def test_stop_leaves_no_timer(self) -> None:
        self.successResultOf(self.bus.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.listener.heard, [])
