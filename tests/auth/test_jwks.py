from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from tests.support.case import SynchronousTestCase
from tests.support.tokens import Issuer
from voiceingest.auth.jwks import KEPT_MAX_S, WAITERS_MAX_COUNT, JwksSource
from voiceingest.auth.jwks_http import FetchFailed
from voiceingest.metrics import Metrics

ONE, OTHER = Issuer("one"), Issuer("two")
AGE, COOLDOWN = 600.0, 30.0


class Endpoint:
    """Stands for the network: every fetch waits until the test answers it."""

    def __init__(self) -> None:
        self.fetches: list[Deferred[bytes]] = []
        self.cancelled = 0

    def fetch(self) -> Deferred[bytes]:
        self.fetches.append(Deferred(self._cancel))
        return self.fetches[-1]

    def _cancel(self, _: Deferred[bytes]) -> None:
        self.cancelled += 1

    def serve(self, document: bytes) -> None:
        self.fetches[-1].callback(document)

    def fail(self, result: str = "connect") -> None:
        self.fetches[-1].errback(Failure(FetchFailed(result)))


class JwksCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.metrics, self.endpoint = Clock(), Metrics(), Endpoint()
        self.jitter = 0.0
        self.source = JwksSource(
            self.endpoint.fetch, {"RS256"}, self.clock, self.metrics,
            max_age_s=AGE, cooldown_s=COOLDOWN, jitter=lambda: self.jitter,
        )

    def started(self, document: bytes | None = None) -> None:
        self.source.start()
        self.endpoint.serve(document or ONE.jwks())

    def fetches(self) -> int:
        return len(self.endpoint.fetches)

    def knows(self, kid: str) -> bool:
        keys = self.source.keys
        return keys is not None and kid in keys._by_kid


class RefreshTests(JwksCase):
    def test_prefetched_at_the_start(self) -> None:
        self.assertEqual((self.source.keys, self.source.ready, self.fetches()), (None, "jwks_not_loaded", 0))
        self.source.start()
        self.assertEqual((self.source.ready, self.fetches()), ("jwks_not_loaded", 1))
        self.endpoint.serve(ONE.jwks())
        self.assertTrue(self.knows("one"))
        self.assertIsNone(self.source.ready)
        self.assertEqual(self.metrics.jwks_fetches["ok"], 1)

    def test_fetched_again_by_age(self) -> None:
        self.started()
        self.clock.advance(AGE - 1)
        self.assertEqual(self.fetches(), 1)
        self.clock.advance(1)
        self.assertEqual(self.fetches(), 2)
        self.assertTrue(self.knows("one"), "the old set serves while the new one is under way")
        self.endpoint.serve(OTHER.jwks())
        self.assertEqual((self.knows("one"), self.knows("two")), (False, True))
        self.clock.advance(AGE)
        self.assertEqual(self.fetches(), 3)

    def test_the_last_good_set_is_kept(self) -> None:
        self.started()
        self.clock.advance(AGE)
        for result in ("connect", "timeout", "http_status", "too_big"):
            self.endpoint.fail(result)
            self.assertTrue(self.knows("one"))
            self.assertIsNone(self.source.ready)
            self.assertEqual(self.metrics.jwks_fetches[result], 1)
            self.clock.advance(AGE)
        for document in (b"", b"<html>", b'{"keys":[]}', b"[" * 100_000):
            self.endpoint.serve(document)
            self.assertTrue(self.knows("one"))
            self.clock.advance(AGE)
        self.assertEqual(self.metrics.jwks_fetches["bad_document"], 4)

    def test_but_for_a_day_only(self) -> None:
        self.started()
        self.clock.advance(KEPT_MAX_S)
        self.assertTrue(self.knows("one"))
        self.assertIsNone(self.source.ready)
        self.clock.advance(1)
        self.assertEqual((self.source.keys, self.source.ready), (None, "jwks_too_old"))
        self.endpoint.serve(ONE.jwks())
        self.assertTrue(self.knows("one"))
        self.assertIsNone(self.source.ready)

    def test_retries_back_off_and_end_with_success(self) -> None:
        self.source.start()
        pauses = []
        for _ in range(9):
            self.endpoint.fail()
            (timer,) = self.clock.getDelayedCalls()
            pauses.append(timer.getTime() - self.clock.seconds())
            self.clock.advance(pauses[-1])
        self.assertEqual(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60])
        self.endpoint.serve(ONE.jwks())
        (timer,) = self.clock.getDelayedCalls()
        self.assertEqual(timer.getTime() - self.clock.seconds(), AGE)
        self.clock.advance(AGE)
        self.endpoint.fail()
        (timer,) = self.clock.getDelayedCalls()
        self.assertEqual(timer.getTime() - self.clock.seconds(), 1)

    def test_retries_are_spread(self) -> None:
        self.jitter = 0.5
        self.source.start()
        self.endpoint.fail()
        (timer,) = self.clock.getDelayedCalls()
        self.assertEqual(timer.getTime(), 0.75)

    def test_reload_fetches_now_and_once(self) -> None:
        self.started()
        self.source.reload()
        self.source.reload()
        self.assertEqual((self.fetches(), self.clock.getDelayedCalls()), (2, []))
        self.endpoint.serve(OTHER.jwks())
        self.assertTrue(self.knows("two"))
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)

    def test_an_error_of_ours_is_logged_and_does_not_end_the_refreshing(self) -> None:
        self.source.start()
        self.endpoint.fetches[-1].errback(Failure(ZeroDivisionError()))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.metrics.jwks_fetches["internal"], 1)
        self.clock.advance(1)
        self.endpoint.serve(ONE.jwks())
        self.assertTrue(self.knows("one"))

    def test_what_is_logged(self) -> None:
        with capturedLogs() as events:
            self.started()
            self.clock.advance(AGE)
            self.endpoint.fail("timeout")
        loaded, failed = [event for event in events if "event" in event]
        self.assertEqual((loaded["event"], loaded["keys"], loaded["ignored"]), ("jwks_loaded", 1, 0))
        self.assertEqual((failed["event"], failed["result"]), ("jwks_fetch_failed", "timeout"))
        self.assertTrue(failed["kept"])


class UnknownKeyTests(JwksCase):
    def asked(self) -> Deferred[None]:
        waiting = self.source.newer_keys()
        assert waiting is not None
        return waiting

    def test_many_ask_and_one_fetch_answers(self) -> None:
        self.started()
        waiting = [self.asked() for _ in range(50)]
        self.assertEqual(self.fetches(), 2)
        for one in waiting:
            self.assertNoResult(one)
        self.endpoint.serve(OTHER.jwks())
        for one in waiting:
            self.successResultOf(one)
        self.assertEqual(self.fetches(), 2)

    def test_one_fetch_in_each_cooldown(self) -> None:
        self.started()
        self.asked()
        self.endpoint.serve(ONE.jwks())
        for _ in range(10):
            self.assertIsNone(self.source.newer_keys())
        self.clock.advance(COOLDOWN - 0.001)
        self.assertIsNone(self.source.newer_keys())
        self.assertEqual(self.fetches(), 2)
        self.clock.advance(0.001)
        self.asked()
        self.assertEqual(self.fetches(), 3)

    def test_a_failed_fetch_answers_too_and_starts_the_cooldown(self) -> None:
        self.started()
        waiting = self.asked()
        self.endpoint.fail()
        self.successResultOf(waiting)
        self.assertTrue(self.knows("one"))
        self.assertIsNone(self.source.newer_keys())

    def test_a_fetch_under_way_is_joined(self) -> None:
        self.source.start()
        waiting = self.asked()
        self.assertEqual(self.fetches(), 1)
        self.endpoint.serve(ONE.jwks())
        self.successResultOf(waiting)
        # Joining cost nothing, so the cool-down has not begun.
        self.asked()
        self.assertEqual(self.fetches(), 2)

    def test_the_fetch_takes_the_place_of_the_next_by_age(self) -> None:
        self.started()
        self.clock.advance(AGE - 1)
        self.asked()
        self.endpoint.serve(ONE.jwks())
        self.clock.advance(AGE - 1)
        self.assertEqual(self.fetches(), 2)
        self.clock.advance(1)
        self.assertEqual(self.fetches(), 3)

    def test_so_many_may_wait(self) -> None:
        self.started()
        waiting = [self.asked() for _ in range(WAITERS_MAX_COUNT)]
        self.assertIsNone(self.source.newer_keys())
        waiting[0].cancel()
        self.failureResultOf(waiting[0], CancelledError)
        self.asked()
        self.assertIsNone(self.source.newer_keys())
        self.endpoint.serve(OTHER.jwks())
        self.successResultOf(waiting[-1])

    def test_a_fetch_that_answers_at_once(self) -> None:
        self.started()
        source = JwksSource(
            lambda: succeed(ONE.jwks()), {"RS256"}, self.clock, self.metrics,
            max_age_s=AGE, cooldown_s=COOLDOWN,
        )
        source.start()
        self.assertIsNotNone(source.keys)
        waiting = source.newer_keys()
        assert waiting is not None
        self.successResultOf(waiting)


class StopTests(JwksCase):
    def test_stop_between_fetches(self) -> None:
        self.started()
        self.successResultOf(self.source.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.source.reload()
        self.assertIsNone(self.source.newer_keys())
        self.assertEqual(self.fetches(), 1)

    def test_stop_gives_up_the_fetch_and_answers_the_waiting(self) -> None:
        self.source.start()
        waiting = self.source.newer_keys()
        assert waiting is not None
        self.successResultOf(self.source.stop())
        self.successResultOf(waiting)
        self.assertEqual(self.endpoint.cancelled, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(sum(self.metrics.jwks_fetches.values()), 0)

    def test_stop_before_start(self) -> None:
        self.successResultOf(self.source.stop())
