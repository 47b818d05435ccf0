"""Where Deepgram is and with which key; connections themselves are in ``test_socket``."""

from __future__ import annotations

from typing import Any

from twisted.internet.testing import MemoryReactorClock

from tests.support.case import SynchronousTestCase
from voiceingest.config import Settings
from voiceingest.errors import SettingsError
from voiceingest.transcribing.dial import Dial
from voiceingest.transcribing.socket import DeepgramSocket


class DialTests(SynchronousTestCase):
    def dial(self, **settings: Any) -> Dial:
        return Dial(Settings(**{"deepgram_api_key": "k", **settings}), MemoryReactorClock())

    def test_a_key_that_fits_in_no_header(self) -> None:
        for key in (None, "", "a\r\nX: y", "ü"):
            self.assertRaises(SettingsError, self.dial, deepgram_api_key=key)

    def test_the_key_is_in_no_text_of_it(self) -> None:
        dial = self.dial(deepgram_api_key="very-secret")
        self.assertNotIn("very-secret", repr(dial))

    def test_the_request_is_of_the_streams_rate(self) -> None:
        links: list[Any] = []

        class Noted(DeepgramSocket):
            def dial(self, endpoint: Any, factory: Any) -> None:
                links.append(factory)

        self.dial(deepgram_url="wss://dg.example.com/v1/listen").connect(Noted(None), 44100)  # type: ignore[arg-type]
        factory = links[0]
        self.assertEqual((factory.host, factory.port, factory.isSecure), ("dg.example.com", 443, True))
        self.assertIn("sample_rate=44100", factory.resource)
        self.assertEqual(factory.headers, {"Authorization": "Token k"})
