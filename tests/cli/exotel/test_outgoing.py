from __future__ import annotations

import base64
import json
from typing import Any

from tests.support.case import SynchronousTestCase
from voiceingest.cli.exotel.outgoing import Leg, Outgoing

LEG = Leg("call-1", 'sid-"1', caller="0987", called="0801", parameters={"tenant_id": "acme"})


def strings_only(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(strings_only, value.values()))
    return isinstance(value, str)


class MessageTests(SynchronousTestCase):
    def test_a_call_from_connected_to_stop(self) -> None:
        out = Outgoing(LEG)
        told = [
            out.connected(),
            out.start(),
            out.media(b"\1\2" * 800),
            out.media(b"\3\4" * 800),
            out.dtmf("#", 200),
            out.mark("été"),
            out.stop(),
        ]
        messages = [json.loads(text) for text in told]
        self.assertEqual(
            [message["event"] for message in messages],
            ["connected", "start", "media", "media", "dtmf", "mark", "stop"],
        )
        self.assertEqual(messages[0], {"event": "connected"})
        self.assertEqual([m["sequence_number"] for m in messages[1:]], list("123456"))
        self.assertEqual({m["stream_sid"] for m in messages[1:]}, {'sid-"1'})
        for message in messages:
            self.assertTrue(strings_only(message), message)

    def test_start(self) -> None:
        self.assertEqual(
            json.loads(Outgoing(LEG).start())["start"],
            {
                "stream_sid": 'sid-"1',
                "call_sid": "call-1",
                "account_sid": "simulated1",
                "from": "0987",
                "to": "0801",
                "custom_parameters": {"tenant_id": "acme"},
                "media_format": {"encoding": "audio/x-raw", "sample_rate": "8000", "bit_rate": "16"},
            },
        )

    def test_mulaw_is_announced(self) -> None:
        told = json.loads(Outgoing(Leg("c", "s", codec="mulaw")).start())
        self.assertEqual(told["start"]["media_format"]["encoding"], "audio/x-mulaw")

    def test_media_counts_in_strings(self) -> None:
        for codec, expected in (("pcm16", "100"), ("mulaw", "200")):
            out = Outgoing(Leg("c", "s", codec=codec))
            out.media(bytes(1600))
            media = json.loads(out.media(b"\xff\xfe" * 800))["media"]
            self.assertEqual((media["chunk"], media["timestamp"]), ("2", expected))
            self.assertEqual(base64.b64decode(media["payload"]), b"\xff\xfe" * 800)

    def test_stop_says_why(self) -> None:
        told = json.loads(Outgoing(LEG).stop())["stop"]
        self.assertEqual(told, {"call_sid": "call-1", "account_sid": "simulated1", "reason": "callended"})
