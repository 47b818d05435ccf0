"""The bytes of one message."""

from __future__ import annotations

from tests.publishers.fakes import make_settings
from tests.support.case import SynchronousTestCase
from voiceingest.audio import AudioFormat
from voiceingest.interfaces import StreamFacts
from voiceingest.publishers.nats_message import SUBJECT_MAX_CHARS, Prepared

FACTS = StreamFacts("acme", "a:b c", AudioFormat(8000), epoch=1234)


class MessageTests(SynchronousTestCase):
    def test_a_frame(self) -> None:
        prepared = Prepared(make_settings(nats_subject="audio.{tenant_id}.{interaction_id}"), FACTS)
        head, body, size_bytes = prepared.message(b"_INBOX.x.17", 5, 99, b"\1\2")
        headers = b"NATS/1.0\r\nVoiceingest-Epoch: 1234\r\nNats-Msg-Id: acme:a%3Ab%20c:1234:5\r\n\r\n"
        self.assertEqual(size_bytes, len(headers) + len(body))
        self.assertEqual(
            head,
            b"HPUB audio.acme.a%%3Ab%%20c _INBOX.x.17 %d %d\r\n%b" % (len(headers), size_bytes, headers),
        )
        self.assertEqual(
            body,
            b'{"tenant_id":"acme","interaction_id":"a:b c","seq":5,"timestamp_ms":99,'
            b'"sample_rate":8000,"encoding":"pcm16","audio":"AQI="}',
        )
        self.assertEqual(prepared.subject_chars, len("audio.acme.a%3Ab%20c"))

    def test_an_event_is_the_same_again_and_another_is_not(self) -> None:
        prepared = Prepared(make_settings(), FACTS)
        head, body, size_bytes = prepared.message(b"r", 0, 99, b'{"event":"x"}')
        self.assertTrue(head.startswith(b"HPUB audio.events r "))
        self.assertRegex(head.decode(), r"Nats-Msg-Id: acme:a%3Ab%20c:1234:e:99:[0-9a-f]{16}\r\n\r\n$")
        self.assertEqual(body, b'{"event":"x"}')
        self.assertEqual(prepared.message(b"r", 0, 99, b'{"event":"x"}'), (head, body, size_bytes))
        ids = {
            prepared.message(b"r", seq, at, text)[0].split(b"Id: ")[1]
            for seq, at, text in ((0, 99, b"a"), (0, 99, b"b"), (0, 98, b"a"), (99, 98, b"a"))
        }
        self.assertEqual(len(ids), 4)

    def test_a_subject_longer_than_a_control_line(self) -> None:
        facts = StreamFacts("\U0001f600" * 128, "\U0001f600" * 128, AudioFormat())
        long = make_settings(nats_subject="{tenant_id}.{interaction_id}.{tenant_id}")
        self.assertGreater(Prepared(long, facts).subject_chars, SUBJECT_MAX_CHARS)
        usual = make_settings(nats_subject="{tenant_id}.{interaction_id}")
        self.assertLess(Prepared(usual, facts).subject_chars, SUBJECT_MAX_CHARS)
