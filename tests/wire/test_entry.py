"""Entries of a Redis stream: exact bytes, and every byte comes back."""

from __future__ import annotations

from typing import Any

import hiredis
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.errors import BadField
from voiceingest.wire.entry import decode_entry, entry_head, entry_parts, event_entry_prefix
from voiceingest.wire.envelope import FrameMessage
from voiceingest.wire.resp import encode_command

# Any text, lone surrogates included: JSON can carry them.
TEXT = st.text(st.characters(), max_size=20)


def command(wire: bytes) -> list[bytes]:
    """What another reader finds."""
    reader = hiredis.Reader()
    reader.feed(wire)
    found = reader.gets()
    assert isinstance(found, list)
    return found


class EntryTests(SynchronousTestCase):
    def test_the_words_of_a_frame_in_their_order(self) -> None:
        parts = entry_parts(b"audio:frames", 20_000, ("acme", "call-1", 1763655000123), 24000, "pcm16")
        audio = b"\r\n\x00\xff"
        expected = encode_command(
            *(b"XADD", b"audio:frames", b"MAXLEN", b"~", b"20000", b"*"),
            *(b"tenant_id", b"acme", b"interaction_id", b"call-1", b"epoch", b"1763655000123"),
            *(b"seq", b"17", b"timestamp_ms", b"1763655004567", b"sample_rate", b"24000"),
            *(b"encoding", b"pcm16", b"audio", audio),
        )
        head = entry_head(parts, 17, 1763655004567, len(audio))
        self.assertEqual(head + audio + b"\r\n", expected)

    def test_the_words_of_an_event(self) -> None:
        told = b'{"event":"started"}'
        prefix = event_entry_prefix(b"audio:events", 100)
        expected = encode_command(b"XADD", b"audio:events", b"MAXLEN", b"~", b"100", b"*", b"event", told)
        self.assertEqual(prefix + b"%d\r\n%b\r\n" % (len(told), told), expected)

    @settings(max_examples=200, deadline=None)
    @given(TEXT, TEXT, st.integers(0, 2**53), st.integers(1, 2**40), st.binary(max_size=300))
    def test_what_is_read_is_what_was_written(
        self, tenant_id: str, interaction_id: str, epoch: int, seq: int, audio: bytes
    ) -> None:
        parts = entry_parts(b"s", 100, (tenant_id, interaction_id, epoch), 8000, "pcm16")
        words = command(entry_head(parts, seq, 5, len(audio)) + audio + b"\r\n")[6:]
        frame = FrameMessage(tenant_id, interaction_id, seq, 5, 8000, "pcm16", audio)
        fields = dict(zip(words[::2], words[1::2], strict=True))
        self.assertEqual(decode_entry(fields), (frame, epoch))

    @given(
        st.dictionaries(st.sampled_from([b"tenant_id", b"seq", b"epoch", b"audio"]), st.binary(max_size=9))
    )
    def test_only_bad_field_comes_out_of_anything_else(self, fields: dict[bytes, Any]) -> None:
        with self.assertRaises(BadField):
            decode_entry(fields)

    def test_text_that_is_none_is_refused(self) -> None:
        parts = entry_parts(b"s", 100, ("a", "b", 1), 8000, "pcm16")
        words = command(entry_head(parts, 1, 5, 0) + b"\r\n")[6:]
        fields = dict(zip(words[::2], words[1::2], strict=True))
        for name in (b"tenant_id", b"encoding", b"seq", b"epoch"):
            with self.assertRaises(BadField):
                decode_entry({**fields, name: b"\xff"})
