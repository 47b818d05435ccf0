"""When to ping and when to give up, by plain numbers."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from voiceingest.websocket.heartbeat import Beat, Heartbeat


class Beats(SynchronousTestCase):
    """20 s of silence, 10 s for the answer."""

    def setUp(self) -> None:
        self.heart = Heartbeat(20.0, 10.0, 100.0)

    def test_silence(self) -> None:
        """A ping after the interval, the end after the timeout."""
        self.assertEqual(self.heart.look(119.9), (Beat.NOTHING, 120.0))
        self.assertEqual(self.heart.look(120.0), (Beat.PING, 130.0))
        self.assertEqual(self.heart.look(129.9), (Beat.NOTHING, 130.0))
        self.assertEqual(self.heart.look(130.0), (Beat.GONE, float("inf")))

    def test_any_byte_is_an_answer(self) -> None:
        """The next ping is an interval after it."""
        self.heart.look(120.0)
        self.heart.heard_at = 121.0
        self.assertEqual(self.heart.look(135.0), (Beat.NOTHING, 141.0))
        self.assertEqual(self.heart.look(141.0)[0], Beat.PING)

    def test_off(self) -> None:
        """No interval, no ping."""
        self.assertEqual(Heartbeat(0, 10.0, 0.0).look(1e9), (Beat.NOTHING, float("inf")))
