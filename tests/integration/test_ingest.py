"""Whole sessions and every refusal, as the wire and the bus show them: real twistd, real Redis."""

from __future__ import annotations

import base64
import json
import time
from typing import Any, Final

from tests.support.daemon import Daemon
from tests.support.sockets import TEXT, frame
from voiceingest.limits import CONTROL_MAX_BYTES, IDENTIFIER_MAX_CHARS, PEER_ERRORS_MAX_COUNT

from .callers import Caller, audio_of
from .case import IngestCase, asynchronous
from .consumer import Consumer

KEYS: Final = ["tenant_id", "interaction_id", "seq", "timestamp_ms", "sample_rate", "encoding", "audio"]


class SessionTests(IngestCase):
    """From the first word to the last."""

    @asynchronous
    async def test_a_whole_session_over_tls_and_plain(self) -> None:
        daemon = await self.start_daemon(tls=True)
        consumer = await self.consume()
        for interaction_id, tls in (("plain-1", False), ("tls-1", True)):
            caller = await self.call(daemon, tls=tls)
            before_ms = int(time.time() * 1000)
            started = await caller.start(interaction_id, sample_rate=24000, encoding="pcm16")
            self.assertEqual(started["interaction_id"], interaction_id)
            sent = [audio_of(number, 9600) for number in range(25)]
            for payload in sent:
                caller.audio(payload)
            stopped = await caller.stop()
            self.assertEqual(caller.close_code, 1000)
            self.assertEqual([ack["seq"] for ack in caller.events("ack")], [10, 20])
            ledger = {name: stopped[name] for name in ("seq", "received", "published", "dropped", "pending")}
            self.assertEqual(ledger, {"seq": 25, "received": 25, "published": 25, "dropped": 0, "pending": 0})
            self.assertEqual([message["event"] for message in caller.told[-1:]], ["stopped"])
            await consumer.event(interaction_id, "stopped")
            self.assert_published(consumer, interaction_id, sent)
            self.check_messages(consumer, interaction_id, before_ms)

    def check_messages(self, consumer: Consumer, interaction_id: str, before_ms: int) -> None:
        """Every frame has exactly the seven fields; ``started`` comes first and ``stopped`` last."""
        mine = [
            (raw, channel, message)
            for raw, (channel, message) in zip(consumer.raw, consumer.messages, strict=True)
            if message["interaction_id"] == interaction_id
        ]
        self.assertEqual(
            [message.get("event") for _, _, message in mine], ["started", *[None] * 25, "stopped"]
        )
        now_ms = int(time.time() * 1000)
        for raw, channel, message in mine[1:-1]:
            self.assertEqual((list(message), channel), (KEYS, "audio:frames"))
            self.assertEqual(raw, json.dumps(message, separators=(",", ":")).encode())
            self.assertEqual(
                (message["tenant_id"], message["sample_rate"], message["encoding"]), ("t1", 24000, "pcm16")
            )
            self.assertTrue(before_ms <= message["timestamp_ms"] <= now_ms)
            base64.b64decode(message["audio"], validate=True)
        last = mine[-1][2]
        self.assertEqual((last["received"], last["published"], last["pending"]), (25, 25, 0))
        self.assertEqual((last["dropped"], last["reason"]), (0, "stopped"))

    @asynchronous
    async def test_a_caller_that_goes_without_a_word(self) -> None:
        daemon = await self.start_daemon(RESUME_WINDOW_S="0")
        consumer = await self.consume()
        caller = await self.call(daemon)
        await caller.start("gone-1")
        for number in range(13):
            caller.audio(audio_of(number))
        await caller.event("ack")
        caller.transport.close()
        stopped = await consumer.event("gone-1", "stopped")
        self.assertEqual((stopped["reason"], stopped["seq"]), ("disconnected", 13))
        self.assert_published(consumer, "gone-1", [audio_of(number) for number in range(13)])
        # Its place is free again.
        again = await self.call(daemon)
        await again.start("gone-1")
        self.assertEqual((await again.stop())["seq"], 0)


class RefusalTests(IngestCase):
    """What is refused, what that costs, and what was accepted before."""

    @asynchronous
    async def test_refusals_the_stream_survives(self) -> None:
        daemon = await self.start_daemon()
        consumer = await self.consume()
        caller = await self.call(daemon)
        await self.refused_before_the_start(caller)
        await caller.start("s-1")
        accepted: list[bytes] = []
        for code, raw in self.bad_messages():
            caller.send(raw)
            self.assertEqual(await caller.error(), code, raw[:80])
            accepted.append(audio_of(len(accepted)))
            caller.audio(accepted[-1])
        # Odd, empty and second start are no part of the numbering.
        stopped = await caller.stop()
        self.assertEqual((stopped["seq"], stopped["published"]), (len(accepted), len(accepted)))
        self.assertEqual((caller.close_code, caller.events("error")), (1000, []))
        await consumer.event("s-1", "stopped")
        self.assert_published(consumer, "s-1", accepted)
        others = [message for _, message in consumer.messages if message.get("event") != "error"]
        self.assertEqual(len(others), len(accepted) + 2)
        # The first ten errors are events too; what comes faster than one a second then is not.
        errors = [message["code"] for _, message in consumer.messages if message.get("event") == "error"]
        self.assertEqual(errors[:10], [code for code, _ in self.bad_messages()][:10])

    async def refused_before_the_start(self, caller: Caller) -> None:
        """Nothing but a sound ``start`` begins a stream."""
        caller.audio(audio_of(1))
        self.assertEqual(await caller.error(), "not_started")
        caller.say("stop")
        self.assertEqual(await caller.error(), "not_started")
        table: list[tuple[str, dict[str, Any]]] = [
            ("unsupported_audio", {"sample_rate": 22050}),
            ("unsupported_audio", {"sample_rate": 0}),
            ("unsupported_audio", {"encoding": "opus"}),
            ("bad_field", {"sample_rate": "24000"}),
            ("bad_field", {"sample_rate": True}),
            ("bad_field", {"interaction_id": ""}),
            ("bad_field", {"interaction_id": "x" * (IDENTIFIER_MAX_CHARS + 1)}),
            ("bad_field", {"interaction_id": 7}),
            ("bad_field", {"tenant_id": None}),
            ("bad_field", {"interaction_id": "a\nb"}),
        ]
        for code, fields in table:
            caller.say("start", **{"interaction_id": "s-1", "tenant_id": "t1", **fields})
            self.assertEqual(await caller.error(), code, fields)

    def bad_messages(self) -> list[tuple[str, bytes]]:
        """Messages a live stream refuses, with the code."""
        texts = [
            ("bad_json", b"{"),
            ("bad_json", b"[]"),
            ("bad_json", b""),
            ("bad_json", b'{"event":"start","sample_rate":NaN}'),
            ("bad_json", b'{"a":' + b"[" * 7000 + b"]" * 7000 + b"}"),
            ("unknown_event", b'{"event":"sing"}'),
            ("bad_field", b'{"event":7}'),
            ("bad_field", b"{}"),
            ("already_started", b'{"event":"start","interaction_id":"s-1","tenant_id":"t1"}'),
            ("already_started", b'{"event":"start","interaction_id":"s-2","tenant_id":"t2"}'),
            ("bad_field", b'{"event":"auth"}'),
        ]
        return [
            *((code, frame(TEXT, text)) for code, text in texts),
            ("odd_frame", frame(2, b"abc")),
            ("odd_frame", frame(2, b"a" * 961)),
            ("empty_frame", frame(2, b"")),
        ]

    @asynchronous
    async def test_refusals_that_end_it(self) -> None:
        daemon = await self.start_daemon(MAX_FRAME_BYTES="20000")
        consumer = await self.consume()
        too_big = frame(TEXT, b'{"event":"' + b"x" * CONTROL_MAX_BYTES + b'"}')
        table = [
            ("big-1", "frame_too_big", 1009, frame(2, bytes(20002))),
            ("big-2", "frame_too_big", 1009, too_big),
            ("big-3", "frame_too_big", 1009, b"\x82\xff" + (1 << 40).to_bytes(8, "big") + bytes(4)),
            ("many-1", "too_many_errors", 4400, frame(TEXT, b"{") * (PEER_ERRORS_MAX_COUNT + 1)),
        ]
        for interaction_id, code, close_code, raw in table:
            caller = await self.call(daemon)
            await caller.start(interaction_id)
            accepted = [audio_of(number) for number in range(7)]
            for payload in accepted:
                caller.audio(payload)
            caller.send(raw + frame(2, audio_of(99)))
            self.assertEqual(await caller.closed(), close_code, interaction_id)
            self.assertEqual(caller.events("error")[-1]["code"], code)
            self.assertEqual(caller.close_reason, code)
            stopped = await consumer.event(interaction_id, "stopped")
            self.assertEqual((stopped["reason"], stopped["published"]), (code, 7))
            self.assert_published(consumer, interaction_id, accepted)

    @asynchronous
    async def test_whose_stream_it_is(self) -> None:
        daemon = await self.start_daemon()
        consumer = await self.consume()
        first = await self.call(daemon)
        await first.start("live-1")
        first.audio(audio_of(0))
        table: list[tuple[str, dict[str, Any], str, str, int]] = [
            # token, start, code, close code
            ("another tenant than the token's", {}, "x-1", "t2", 4403),
            ("no tenant in the token", {"tenant_id": None}, "x-2", "t1", 4403),
            ("bound to another interaction", {"interaction_id": "x-0"}, "x-3", "t1", 4403),
            ("a live one of another tenant", {"tenant_id": "t2"}, "live-1", "t2", 4403),
        ]
        for what, claims, interaction_id, tenant_id, close_code in table:
            caller = await self.call(daemon, self.issuer.token(**claims))
            caller.say("start", interaction_id=interaction_id, tenant_id=tenant_id)
            caller.audio(audio_of(99))
            self.assertEqual(await caller.closed(), close_code, what)
            self.assertEqual([message.get("code") for message in caller.told], ["forbidden"], what)
        bound = await self.call(daemon, self.issuer.token(interaction_id="x-0"))
        await bound.start("x-0")
        self.assertEqual((await bound.stop())["seq"], 0)
        first.audio(audio_of(1))
        self.assertEqual((await first.stop())["published"], 2)
        await consumer.event("live-1", "stopped")
        self.assert_published(consumer, "live-1", [audio_of(0), audio_of(1)])
        self.assertEqual({message["interaction_id"] for _, message in consumer.messages}, {"live-1", "x-0"})

    @asynchronous
    async def test_upgrades_that_are_refused(self) -> None:
        daemon = await self.start_daemon(PUBLISH_URL="memory://", JWT_LEEWAY_S="0")
        good = self.issuer.token()
        unsigned = base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("=")
        refused = [
            "",
            "Bearer",
            "Bearer a.b.c",
            f"Basic {good}",
            f"Bearer {good[:-8]}AAAAAAAA",
            f"Bearer {unsigned}.{good.split('.')[1]}.",
            f"Bearer {self.issuer.token(lifetime_s=-5)}",
        ]
        bodies = set()
        for authorization in refused:
            caller = await self.connect(daemon, Authorization=authorization)
            await caller.closed()
            self.assertEqual(caller.status, 401, authorization)
            self.assertEqual(caller.headers["www-authenticate"], "Bearer")
            body = json.loads(caller.body)
            self.assertEqual(body.pop("request_id"), caller.headers["x-request-id"])
            bodies.add(json.dumps(body))
        # One constant answer, whatever was wrong.
        self.assertEqual(len(bodies), 1, bodies)
        self.assertEqual(json.loads(bodies.pop())["code"], "unauthorized")
        await self.check_label(daemon)

    async def check_label(self, daemon: Daemon) -> None:
        """Operators can tell what callers cannot."""
        exposition = await self.metrics(daemon)
        for status in ("missing", "invalid", "expired"):
            self.assertRegex(exposition, rf'ingress_auth_attempts_total{{status="{status}"}} [1-9]')
