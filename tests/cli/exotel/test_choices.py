from __future__ import annotations

import io
from typing import Any

from tests.support.case import SynchronousTestCase
from voiceingest.cli.console import Console
from voiceingest.cli.exotel.choices import dialling_of, recording_of, script_of
from voiceingest.cli.failures import UsageFailed
from voiceingest.cli.speech import tone
from voiceingest.cli.wavfile import Recording, write_wav
from voiceingest.wire.g711 import pcm16_to_ulaw, ulaw_to_pcm16

CHOSEN: dict[str, Any] = {
    "file": None,
    "tone_hz": 400.0,
    "seconds": None,
    "rate": None,
    "mix": None,
    "codec": "pcm16",
    "frame_ms": 100.0,
    "linger": 2.0,
    "barge_in": None,
    "dtmf": (),
    "record": None,
    "url": "ws://192.0.2.1/x",
    "webhook": None,
    "ticket": None,
    "param": {},
    "ca": None,
    "insecure": False,
}
TONE = Recording(8000, tone(400, 1.0, 8000))


class RecordingTests(SynchronousTestCase):
    def test_rates(self) -> None:
        wav = self.mktemp_path().with_suffix(".wav")
        write_wav(wav, bytes(100), 16000)
        for more, expected in (
            ({}, 8000),
            ({"rate": "24000"}, 24000),
            ({"file": wav, "tone_hz": None}, 16000),
        ):
            self.assertEqual(recording_of({**CHOSEN, **more}).sample_rate, expected)

    def test_a_rate_no_call_has(self) -> None:
        wav = self.mktemp_path().with_suffix(".wav")
        write_wav(wav, bytes(100), 48000)
        with self.assertRaises(UsageFailed) as caught:
            recording_of({**CHOSEN, "file": wav, "tone_hz": None})
        self.assertIn("-ar 8000", caught.exception.hint or "")


class ScriptTests(SynchronousTestCase):
    def test_pcm(self) -> None:
        script = script_of(TONE, {**CHOSEN, "seconds": 2.5, "barge_in": 3.0, "dtmf": ((1.0, "1"),)})
        self.assertEqual((script.frame_bytes, script.frame_s), (1600, 0.1))
        self.assertEqual((script.source.coded, script.source.length_bytes), (TONE.pcm, 40_000))
        self.assertEqual((script.barge_in_s, script.digits, script.record), (3.0, ((1.0, "1"),), False))
        self.assertEqual(script.decode(b"\1\2"), b"\1\2")

    def test_a_frame_that_is_no_whole_number_of_samples_keeps_pace_with_its_audio(self) -> None:
        script = script_of(TONE, {**CHOSEN, "frame_ms": 33.33})
        self.assertEqual((script.frame_bytes, script.frame_s), (534, 267 / 8000))

    def test_mulaw(self) -> None:
        script = script_of(TONE, {**CHOSEN, "codec": "mulaw"})
        self.assertEqual((script.frame_bytes, script.frame_s), (800, 0.1))
        self.assertEqual((script.source.coded, script.source.length_bytes), (pcm16_to_ulaw(TONE.pcm), 8000))
        self.assertEqual(script.decode(script.source.silence), bytes(2))
        self.assertEqual(script.decode(script.source.coded), ulaw_to_pcm16(pcm16_to_ulaw(TONE.pcm)))


class DiallingTests(SynchronousTestCase):
    def said(self, **more: Any) -> str:
        err = io.StringIO()
        dialling_of(Console(out=io.StringIO(), err=err), "Bearer t", {**CHOSEN, **more})
        return err.getvalue()

    def test_what_is_open_is_said(self) -> None:
        self.assertIn("in the clear", self.said())
        self.assertEqual(self.said(url="wss://192.0.2.1/x"), "")
        self.assertEqual(self.said(webhook="https://h/"), "")
        self.assertIn("whoever answers", self.said(url="wss://h", insecure=True))

    def test_secrets_are_not_shown(self) -> None:
        dialling = dialling_of(Console(), "Bearer canary", {**CHOSEN, "url": "wss://h", "ticket": "canary"})
        self.assertEqual((dialling.authorization, dialling.ticket), ("Bearer canary", "canary"))
        self.assertNotIn("canary", repr(dialling))
