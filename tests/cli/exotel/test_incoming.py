from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.cli.exotel.incoming import ILLEGAL, ODD, Incoming
from voiceingest.cli.exotel.outgoing import Leg

INCOMING = Incoming(Leg("call-1", "sid-1"))


def media(size: int, **more: Any) -> dict[str, Any]:
    payload = base64.b64encode(bytes(size)).decode()
    return {"event": "media", "stream_sid": "sid-1", "media": {"payload": payload}} | more


class LegalTests(SynchronousTestCase):
    def test_what_the_documentation_shows(self) -> None:
        audio = base64.b64encode(b"\1\2" * 1600).decode()
        extras = {"payload": audio, "chunk": "1", "timestamp": "0", "sequence_number": "1"}
        for message, event, size, mark in (
            (media(3200), "media", 3200, ""),
            (media(99_840), "media", 99_840, ""),
            (media(3200, sequence_number="7", media=extras), "media", 3200, ""),
            ({"event": "mark", "stream_sid": "sid-1", "mark": {"name": "utt-3"}}, "mark", 0, "utt-3"),
            ({"event": "clear", "stream_sid": "sid-1"}, "clear", 0, ""),
        ):
            heard = INCOMING.read(json.dumps(message).encode())
            self.assertEqual((heard.event, len(heard.audio), heard.mark), (event, size, mark))
            self.assertEqual((heard.illegal, heard.odd), ((), ()), message)


class IllegalTests(SynchronousTestCase):
    def check(self, message: Any, illegal: tuple[str, ...], *, plays: int = 0, event: str = "media") -> None:
        payload = message if isinstance(message, bytes) else json.dumps(message).encode()
        heard = INCOMING.read(payload)
        self.assertEqual((heard.illegal, len(heard.audio), heard.event), (illegal, plays, event), message)
        self.assertTrue(set(illegal) <= ILLEGAL.keys())

    def test_what_is_no_message(self) -> None:
        for payload in (b"", b"{", b"[]", b"3", b"\xff", b"[" * 100_000):
            self.check(payload, ("bad_json",), event="")
        for message in ({}, {"event": 3}, {"event": "Media"}, {"event": "hangup"}):
            self.check(message, ("unknown_event",), event="")

    def test_sizes(self) -> None:
        self.check(media(3201), ("not_320",), plays=3200)
        self.check(media(480), ("not_320",), plays=480)
        self.check(media(0), ("empty",))
        self.check(media(100_160), ("too_big",))

    def test_payloads(self) -> None:
        for payload in ("AAA", "A*==", "AAAA\n", "AAAA=", "é"):
            self.check(media(320, media={"payload": payload}), ("bad_base64",))
        for broken in (None, {}, [], {"payload": None}, {"payload": 3}):
            self.check(media(320, media=broken), ("no_payload",))

    def test_keys_nobody_knows(self) -> None:
        self.check(media(3200, track="outbound"), ("unknown_key",), plays=3200)
        self.check(media(3200, mark={"name": "x"}), ("unknown_key",), plays=3200)
        payload = media(3200)["media"]["payload"]
        self.check(media(0, media={"payload": payload, "x": 1}), ("unknown_key",), plays=3200)

    def test_another_stream_is_not_played_and_clears_nothing(self) -> None:
        self.check(media(3200, stream_sid="sid-2"), ("wrong_stream",), event="")
        self.check(media(3200, stream_sid=1), ("wrong_stream",), event="")
        self.check({"event": "clear", "stream_sid": "sid-2"}, ("wrong_stream",), event="")

    def test_marks(self) -> None:
        for mark in (None, {}, {"name": ""}, {"name": 3}, {"name": "x" * 257}):
            message = {"event": "mark", "stream_sid": "sid-1", "mark": mark}
            self.check(message, ("no_name",), event="mark")


class OddTests(SynchronousTestCase):
    def test_what_works_without_being_documented(self) -> None:
        camel = media(3200)
        camel["streamSid"] = camel.pop("stream_sid")
        nameless = media(3200)
        del nameless["stream_sid"]
        for message, odd in ((camel, "camel_case"), (nameless, "no_stream"), (media(320), "short")):
            heard = INCOMING.read(json.dumps(message).encode())
            self.assertEqual((heard.odd, heard.illegal), ((odd,), ()))
            self.assertTrue(heard.audio)
            self.assertIn(odd, ODD)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda below: (
        st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(["payload", "name", "x"]), below)
    ),
    max_leaves=5,
)


class PropertyTests(SynchronousTestCase):
    @given(
        st.fixed_dictionaries(
            {"event": st.sampled_from(["media", "mark", "clear", "stop"])},
            optional={"stream_sid": JSON, "streamSid": JSON, "media": JSON, "mark": JSON, "x": JSON},
        )
    )
    def test_any_message_has_a_verdict(self, message: dict[str, Any]) -> None:
        heard = INCOMING.read(json.dumps(message).encode())
        self.assertTrue(set(heard.illegal) <= ILLEGAL.keys() and set(heard.odd) <= ODD.keys())
        if heard.audio or heard.mark:
            self.assertEqual(heard.event, message["event"])

    @given(st.binary(max_size=40))
    def test_any_bytes_have_a_verdict(self, payload: bytes) -> None:
        self.assertTrue(INCOMING.read(payload).illegal)
