"""How a stream may begin; test_flow goes through what follows from it."""

from __future__ import annotations

from tests.support.case import SynchronousTestCase
from tests.support.world import AUDIO, WALL, World, ledger
from voiceingest.audio import AudioFormat
from voiceingest.entrance import Entry, enter
from voiceingest.errors import Draining, Forbidden, Replaced, ResumeExpired, ResumeRefused
from voiceingest.stream import NO_WISH, Wish

EPOCH = int(WALL * 1000)


class EntranceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.world = World(resume_window_s=30.0)

    def enter(self, wish: Wish = NO_WISH, tenant: str = "acme", audio: AudioFormat = AUDIO) -> Entry:
        return enter(self.world.house, tenant, "call", audio, wish)

    def test_anew(self) -> None:
        self.assertEqual(self.enter(), Entry(None, None, EPOCH, 1, False))

    def test_in_the_place_of_another(self) -> None:
        driver, _, _ = self.world.live()
        self.assertEqual(self.enter(), Entry(None, driver._flow, EPOCH + 1, 1, False))
        self.assertRaises(Forbidden, self.enter, tenant="other")

    def test_where_its_client_left_off(self) -> None:
        driver, far, _ = self.world.live()
        token = far.last("started")["resume_token"]
        self.assertEqual(self.enter(Wish(token)), Entry(driver._flow, None, EPOCH, 0, True))
        self.assertRaises(ResumeRefused, self.enter, Wish(token), audio=AudioFormat(8000))
        self.world.live()
        self.assertRaises(Replaced, self.enter, Wish(token))

    def test_where_another_process_left_off(self) -> None:
        tokens = World(resume_window_s=30.0).house.tokens
        token = tokens.mint("acme", "call", 42, (24000, "pcm16"), 1)
        self.assertEqual(self.enter(Wish(token, acked=4)), Entry(None, None, 42, 5, True))

    def test_what_another_process_began_and_ended_here(self) -> None:
        """Its `stopped` is on the bus. What went on elsewhere since is another matter."""
        elsewhere = World(resume_window_s=30.0).house.tokens
        before = elsewhere.mint("acme", "call", 42, (24000, "pcm16"), 1)
        self.world.pump(1.0)
        driver, _, _ = self.world.live(wish=Wish(before))
        driver.lost(1006)
        self.world.pump(31.0)
        self.assertEqual(len(self.world.registry), 0)
        self.assertRaises(ResumeExpired, self.enter, Wish(before, acked=4))
        elsewhere.now = self.world.house.wall_clock
        since = elsewhere.mint("acme", "call", 42, (24000, "pcm16"), 9)
        self.assertEqual(self.enter(Wish(since)), Entry(None, None, 42, 9, True))

    def test_what_came_back_here_counts_from_then(self) -> None:
        elsewhere = World(resume_window_s=30.0)
        before = elsewhere.house.tokens.mint("acme", "call", 42, (24000, "pcm16"), 1)
        driver, far, _ = self.world.live(wish=Wish(before))
        self.world.pump(5.0)
        elsewhere.pump(5.0)
        meanwhile = elsewhere.house.tokens.mint("acme", "call", 42, (24000, "pcm16"), 9)
        self.world.pump(5.0)
        driver.lost(1006)
        self.assertEqual(self.world.registry.detached_count, 1)
        again, _, _ = self.world.live(wish=Wish(far.last("started")["resume_token"]))
        self.assertEqual(self.world.registry.detached_count, 0)
        again.stop()
        self.world.lanes[-1].confirm()
        self.world.pump(31.0)
        self.assertRaises(ResumeExpired, self.enter, Wish(meanwhile))

    def test_what_begins_after_one_from_elsewhere_is_newer(self) -> None:
        """The clock of that process may be ahead of ours."""
        ahead = EPOCH + 3_600_000
        token = World(resume_window_s=30.0).house.tokens.mint("acme", "call", ahead, (24000, "pcm16"), 1)
        driver, _, _ = self.world.live(wish=Wish(token))
        driver.stop()
        self.assertEqual(len(self.world.registry), 0)
        self.assertEqual(self.enter().epoch, ahead + 1)

    def test_what_is_over(self) -> None:
        driver, far, _ = self.world.live()
        token = far.last("started")["resume_token"]
        driver.stop()
        last = {"seq": 0, **ledger(0, 0)}
        self.assertEqual(self.enter(Wish(token)), Entry(None, None, EPOCH, 0, True, last))
        self.world.pump(30.0)
        self.assertRaises(ResumeExpired, self.enter, Wish(token))
        self.assertEqual(self.world.metrics.resumes_refused["resume_expired"], 1)

    def test_nobody_while_draining(self) -> None:
        self.world.connect()
        self.world.registry.drain(1.0)
        self.assertRaises(Draining, self.enter)
