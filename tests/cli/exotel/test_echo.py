from __future__ import annotations

from tests.support.case import SynchronousTestCase
from voiceingest.cli.exotel.echo import Echo
from voiceingest.cli.exotel.voice import Source, Voice
from voiceingest.wire.g711 import ulaw_to_pcm16


class EchoTests(SynchronousTestCase):
    def setUp(self) -> None:
        voice = Voice(Source(b"abcdefgh", 8))
        voice.begin(0)
        self.echo = Echo(voice, 2)

    def test_the_same_in_other_pieces_and_then_silence(self) -> None:
        for piece in (b"ab", b"cdefgh", b"\0\0\0\0"):
            self.echo.take(piece)
        self.assertEqual((self.echo.identical, self.echo.differs_at), (6, None))

    def test_the_first_sample_that_differs(self) -> None:
        for piece in (b"ab", b"cdeXgh", b"\0\0"):
            self.echo.take(piece)
        self.assertEqual((self.echo.identical, self.echo.differs_at), (2, 2))

    def test_codes_of_one_sound_are_one(self) -> None:
        voice = Voice(Source(b"\x7f\x10\xff", 3, b"\xff"))
        voice.begin(0)
        echo = Echo(voice, 1, ulaw_to_pcm16)
        echo.take(b"\xff\x10\x7f\xff")
        self.assertEqual((echo.identical, echo.differs_at), (4, None))
        echo.take(b"\xff\x20")
        self.assertEqual((echo.identical, echo.differs_at), (5, 5))

    def test_something_else_altogether(self) -> None:
        self.echo.take(b"zz")
        self.assertEqual((self.echo.identical, self.echo.differs_at), (0, 0))
