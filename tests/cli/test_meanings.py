from __future__ import annotations

from tests.support.case import SynchronousTestCase
from voiceingest.cli.meanings import _ADVICE, explain
from voiceingest.errors import Fault, VoiceIngestError, every_error


class MeaningTests(SynchronousTestCase):
    def test_every_code_a_peer_can_be_told_has_its_text(self) -> None:
        for error in every_error():
            if error is not VoiceIngestError and error.fault is not Fault.OPERATOR:
                meaning = explain(error.code)
                self.assertNotIn("tree", meaning.text)
                self.assertNotIn(error.code, meaning.text.split())

    def test_advice_is_for_codes_there_are(self) -> None:
        self.assertEqual(set(_ADVICE) - {error.code for error in every_error()}, set())

    def test_every_close_code_there_is_has_a_text(self) -> None:
        for code in {error.close_code for error in every_error()} | {1000, 1002, 1006, 1007}:
            self.assertNotEqual(explain(None, code).text, f"Close code {code}")

    def test_table(self) -> None:
        for found, words, retryable in (
            (explain("token_expired", 4401), "expired", True),
            (explain("forbidden", 4403), "tenant", False),
            (explain(None, 4403), "tenant", False),
            (explain(None, 4408), "No audio came", True),
            (explain(None, 1001), "shutting down", True),
            (explain(None, 1011), "our side", True),
            (explain(None, 1006), "broke", True),
            (explain(None, 4999), "Close code 4999", False),
            (explain(None, None, 503), "HTTP 503", True),
            (explain(None, None, 418), "HTTP 418", False),
            (explain("made_up", None, 401), "HTTP 401", False),
        ):
            self.assertIn(words, found.text)
            self.assertEqual(found.retryable, retryable, found.text)
