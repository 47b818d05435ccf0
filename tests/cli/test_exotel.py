"""The caller of ``simulate exotel`` over real sockets, against a bot that knows nothing of the daemon.

Its pure parts have tests of their own in ``exotel``.
"""

from __future__ import annotations

import json
import wave
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import ensureDeferred
from twisted.internet.task import deferLater

from tests.support.case import TestCase
from tests.support.daemon import free_port
from voiceingest.cli.exotel import caller as caller_module
from voiceingest.cli.exotel import conversation as conversation_module
from voiceingest.cli.exotel import line as line_module
from voiceingest.cli.exotel import outgoing
from voiceingest.cli.exotel.caller import Dialling
from voiceingest.cli.exotel.calls import legs, run_calls
from voiceingest.cli.exotel.conversation import Script
from voiceingest.cli.exotel.report import CallReport
from voiceingest.cli.exotel.voice import Source, first_loud
from voiceingest.cli.exotel.webhook import ask
from voiceingest.cli.failures import CommandFailed, ConnectionFailed, Exit, UsageFailed
from voiceingest.cli.minting import tls_pair
from voiceingest.cli.running import Interrupt
from voiceingest.cli.speech import tone
from voiceingest.cli.target import Trust
from voiceingest.wire.g711 import pcm16_to_ulaw

from .exotel.bot import CLEAR, MARK, Bot, Leg, Ways, Webhook, media
from .program import ProgramCase, coroutine, invoked

SPEECH = tone(400, 0.4, 8000)
LEG = outgoing.Leg("call", "", caller="0987", called="0801")
ONE = media(bytes(3200))


class CallCase(TestCase):
    timeout = 60

    async def serve(self, **ways: Any) -> Bot:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        bot = Bot(Ways(**ways))
        await bot.listen(self, reactor)
        return bot

    async def call(
        self,
        url: str,
        count: int = 1,
        interrupt: Interrupt | None = None,
        dialling: Dialling | None = None,
        **script: Any,
    ) -> list[CallReport]:
        chosen: dict[str, Any] = {"linger_s": 0.2, "decode": bytes, **script}
        source = Source(SPEECH, len(SPEECH), b"\0", first_loud(SPEECH))
        return await run_calls(
            self.reactor,
            replace(dialling, url=url) if dialling else Dialling(url),
            Script(source, 320, 0.02, **chosen),
            legs(LEG, count),
            interrupt or Interrupt(),
        )

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for something about the bot."""
        while not condition():
            await deferLater(self.reactor, 0.01)

    async def call_until(self, bot: Bot, condition: Callable[[Leg], Any], **script: Any) -> CallReport:
        """Call, and hang up when ``condition`` holds and what the bot has said has been heard."""
        interrupt = Interrupt()
        running = ensureDeferred(self.call(bot.url, interrupt=interrupt, **{"linger_s": 3000.0, **script}))
        await self.until(lambda: bot.legs and condition(bot.legs[-1]))
        bot.legs[-1].sendPing(b"heard?")
        await self.until(lambda: bot.legs[-1].ponged)
        interrupt.ask()
        (report,) = await running
        return report


class CallTests(CallCase):
    @coroutine
    async def test_an_echo_is_identical_and_everything_in_order(self: Any) -> None:
        bot = await self.serve(echo=True)
        report = await self.call_until(bot, lambda leg: len(leg.audio) >= len(SPEECH))
        self.assertIsNone(report.failure)
        self.assertEqual((report.exit_code, report.close_code), (Exit.OK, 1000))
        self.assertGreaterEqual(report.identical, len(SPEECH) // 2)
        self.assertIsNone(report.differs_at)
        (leg,) = bot.legs
        self.assertEqual(leg.heard[0], {"event": "connected"})
        self.assertEqual(leg.heard[1]["start"]["call_sid"], "call")
        self.assertEqual(leg.heard[-1]["stop"]["reason"], "callended")
        self.assertTrue(leg.audio.startswith(SPEECH))
        self.assertEqual(bot.queries, [{"call_id": "call", "sample-rate": "8000"}])
        self.assertNotIn("authorization", bot.headers[0])

    @coroutine
    async def test_a_bot_that_never_answers(self: Any) -> None:
        bot = await self.serve()
        (report,) = await self.call(bot.url)
        self.assertEqual(bot.legs[0].audio, SPEECH + bytes(3200))
        self.assertIsNone(report.failure)
        self.assertEqual((report.heard_chunks, report.first_audio_s, report.identical), (0, None, 0))

    @coroutine
    async def test_what_is_illegal_is_told_and_is_a_failure(self: Any) -> None:
        bot = await self.serve(greeting=[media(bytes(330)), b"\0\1", "[", ONE])
        report = await self.call_until(bot, lambda leg: leg.sid)
        self.assertEqual(dict(report.illegal), {"not_320": 1, "binary": 1, "bad_json": 1})
        self.assertEqual(report.exit_code, Exit.REFUSED)
        self.assertIn("not legal, 3 times", report.failure or "")

    @coroutine
    async def test_the_largest_chunk_there_may_be(self: Any) -> None:
        bot = await self.serve(greeting=[media(bytes(99_840))])
        report = await self.call_until(bot, lambda leg: leg.sid)
        self.assertIsNone(report.failure)
        self.assertEqual(report.heard_samples, 49_920)

    @coroutine
    async def test_a_mark_is_echoed(self: Any) -> None:
        bot = await self.serve(greeting=[ONE, MARK])
        report = await self.call_until(bot, lambda leg: leg.of("mark"))
        self.assertIsNone(report.failure)
        self.assertEqual([message["mark"] for message in bot.legs[0].of("mark")], [{"name": "spoken"}])
        self.assertEqual((report.marks, report.marks_echoed), (1, 1))

    @coroutine
    async def test_a_bot_that_is_interrupted_clears(self: Any) -> None:
        loud = media(b"\x00\x40" * 1600)
        bot = await self.serve(greeting=[loud] * 100, on_speech=[CLEAR])
        report = await self.call_until(bot, lambda leg: leg.is_answered, barge_in_s=0.1)
        self.assertIsNone(report.failure)
        self.assertEqual((report.interrupted, report.clears), (True, 1))
        self.assertGreater(report.barge_in_s or 0, 0)
        self.assertGreater(report.cleared_s, 0)

    @coroutine
    async def test_nothing_to_interrupt_is_a_failure(self: Any) -> None:
        self.patch(conversation_module, "BARGE_WAIT_S", 0.2)
        bot = await self.serve()
        (report,) = await self.call(bot.url, barge_in_s=0.1)
        self.assertIn("not heard for long enough", report.failure or "")

    @coroutine
    async def test_many_calls_have_names_of_their_own(self: Any) -> None:
        bot = await self.serve(echo=True)
        reports = await self.call(bot.url, 20)
        self.assertEqual([report.failure for report in reports], [None] * 20)
        self.assertEqual({query["call_id"] for query in bot.queries}, {f"call-{n}" for n in range(1, 21)})
        self.assertEqual(len({leg.sid for leg in bot.legs}), 20)
        for leg in bot.legs:
            self.assertEqual(leg.audio, SPEECH + bytes(3200))


class EndingTests(CallCase):
    @coroutine
    async def test_a_refusal(self: Any) -> None:
        bot = await self.serve(deny=(401, "no"))
        (report,) = await self.call(bot.url)
        self.assertEqual((report.http_status, report.exit_code, report.began), (401, Exit.REFUSED, False))
        self.assertIn("HTTP 401", report.failure or "")
        self.assertIn("--ticket", report.hint or "")

    @coroutine
    async def test_a_bot_that_hangs_up(self: Any) -> None:
        for code, words in ((1000, "hung up"), (1011, "hung up"), (0, "connection broke")):
            bot = await self.serve(close_at=(3, code))
            (report,) = await self.call(bot.url, linger_s=3000.0)
            self.assertIn(words, report.failure or "")
            self.assertEqual((report.close_code, report.exit_code), (code or 1006, Exit.REFUSED))
            self.assertGreaterEqual(report.sent_chunks, 3)

    @coroutine
    async def test_a_bot_that_does_not_read_is_left(self: Any) -> None:
        self.patch(line_module, "GOODBYE_S", 0.1)
        bot = await self.serve(deaf=True)
        (report,) = await self.call(bot.url)
        self.assertIn("did not close in order", report.failure or "")
        bot.legs[0].transport.resumeProducing()

    @coroutine
    async def test_nobody_there(self: Any) -> None:
        await self.serve()
        (report,) = await self.call(f"ws://127.0.0.1:{free_port()}/x")
        self.assertEqual(report.exit_code, Exit.NO_CONNECTION)
        self.assertIn("nothing listens at", report.failure or "")

    @coroutine
    async def test_a_handshake_that_takes_too_long(self: Any) -> None:
        from .server import Server

        self.patch(caller_module, "HANDSHAKE_S", 0.1)
        await self.serve()
        silent = Server()
        await silent.listen_raw(self, self.reactor, None)
        (report,) = await self.call(silent.url())
        self.assertEqual(report.exit_code, Exit.NO_CONNECTION)
        self.assertIn("does not answer", report.failure or "")

    @coroutine
    async def test_an_interrupt_hangs_up_in_order(self: Any) -> None:
        bot = await self.serve()
        report = await self.call_until(bot, lambda leg: leg.chunks)
        self.assertIsNone(report.failure)
        self.assertEqual(bot.legs[0].heard[-1]["event"], "stop")

    @coroutine
    async def test_an_interrupt_before_anything_stands(self: Any) -> None:
        from .server import Server

        await self.serve()
        silent = Server()
        await silent.listen_raw(self, self.reactor, None)
        for dialling in (None, Dialling("", webhook=f"http://127.0.0.1:{silent.port}/")):
            interrupt = Interrupt()
            self.reactor.callLater(0.2, interrupt.ask)
            (report,) = await self.call(silent.url(), interrupt=interrupt, dialling=dialling)
            self.assertIsNotNone(report.failure)


class GettingThroughTests(CallCase):
    @coroutine
    async def test_credentials(self: Any) -> None:
        basic = f"Basic {b64encode(b'key:token').decode()}"
        bot = await self.serve()
        at = bot.url.replace("ws://", "ws://key:token@")
        await self.call(at)
        await self.call(bot.url, dialling=Dialling("", authorization="Bearer t", ticket="once"))
        self.assertEqual([headers["authorization"] for headers in bot.headers], [basic, "Bearer t"])
        self.assertEqual(bot.queries[1]["ticket"], "once")

    @coroutine
    async def test_custom_parameters(self: Any) -> None:
        bot = await self.serve()
        await self.call(bot.url, dialling=Dialling("", parameters={"tenant_id": "acme"}))
        self.assertEqual(bot.queries[0]["tenant_id"], "acme")
        self.assertEqual(bot.legs[0].heard[1]["start"]["custom_parameters"], {"tenant_id": "acme"})

    @coroutine
    async def test_the_webhook_says_where_to(self: Any) -> None:
        bot = await self.serve()
        body = json.dumps({"url": f"{bot.url}?ticket=t1"}).encode()
        hook = Webhook(200, body)
        await hook.listen(self, self.reactor)
        dialling = Dialling("", webhook=f"http://u:p@127.0.0.1:{hook.port}/connect?token=w")
        (report,) = await self.call("ws://nowhere.invalid", dialling=dialling)
        self.assertIsNone(report.failure)
        self.assertIsNotNone(report.webhook_s)
        self.assertEqual(
            hook.asked,
            [
                {
                    "token": "w",
                    "CallSid": "call",
                    "CallFrom": "0987",
                    "CallTo": "0801",
                    "Direction": "incoming",
                    "From": "0987",
                    "To": "0801",
                }
            ],
        )
        self.assertEqual(hook.authorizations, [f"Basic {b64encode(b'u:p').decode()}"])
        self.assertEqual(bot.queries[0]["ticket"], "t1")

    @coroutine
    async def test_over_tls_with_an_authority_of_its_own(self: Any) -> None:
        from twisted.internet import reactor

        self.reactor = reactor
        folder = self.mktemp_path()
        folder.mkdir()
        pair = tls_pair(["localhost"], datetime.now(UTC))
        tls = folder / "key.pem", folder / "cert.pem"
        tls[0].write_bytes(pair.private_pem)
        tls[1].write_bytes(pair.public_pem)
        bot = Bot()
        await bot.listen(self, reactor, tls)
        hook = Webhook(200, json.dumps({"url": f"wss://localhost:{bot.port}/x"}).encode())
        await hook.listen(self, reactor, tls)
        url = f"https://localhost:{hook.port}/connect"
        for trust, webhook, reason in (
            (Trust(tls[1]), url, None),
            (Trust(insecure=True), url, None),
            (Trust(), url, "not signed by an authority"),
            (Trust(), None, "not signed by an authority"),
        ):
            dialling = Dialling("", webhook=webhook, trust=trust)
            (report,) = await self.call(f"wss://localhost:{bot.port}/x", dialling=dialling)
            if reason is None:
                self.assertEqual((report.failure, report.tls_version), (None, "TLSv1.3"))
            else:
                self.assertIn(reason, report.failure or "")
                self.assertEqual(report.exit_code, Exit.NO_CONNECTION)
        self.assertEqual(len(bot.legs), 2)

    @coroutine
    async def test_answers_exotel_could_do_nothing_with(self: Any) -> None:
        await self.serve()
        for status, body, words in (
            (401, b"{}", "HTTP 401"),
            (200, b"<Response/>", "did not answer with"),
            (200, b'{"url": 3}', "did not answer with"),
            (200, b"[" * 50_000, "did not answer with"),
            (302, b"", "HTTP 302"),
        ):
            hook = Webhook(status, body)
            await hook.listen(self, self.reactor)
            url = f"http://127.0.0.1:{hook.port}/connect?token=canary"
            failed = await self.refused(ask(self.reactor, url, Trust(), {}))
            self.assertIn(words, failed.message)
            self.assertNotIn("canary", failed.message)

    @coroutine
    async def test_a_webhook_that_is_none(self: Any) -> None:
        await self.serve()
        for url, kind in (
            ("wss://h/x", UsageFailed),
            ("http://[::1", UsageFailed),
            ("http://h/\n", UsageFailed),
            (f"http://127.0.0.1:{free_port()}/", ConnectionFailed),
        ):
            self.assertIsInstance(await self.refused(ask(self.reactor, url, Trust(), {})), kind)

    async def refused(self, asking: Any) -> Any:
        try:
            await asking
        except CommandFailed as failed:
            return failed
        raise AssertionError("it was answered")


class CommandTests(ProgramCase):
    async def bot(self, **ways: Any) -> Bot:
        from twisted.internet import reactor

        bot = Bot(Ways(**ways))
        await bot.listen(self, reactor)
        return bot

    @coroutine
    async def test_a_call_is_summed_up_and_recorded(self: Any) -> None:
        bot = await self.bot(echo=True)
        wav = self.mktemp_path().with_suffix(".wav")
        program = await self.run_it(
            *("simulate", "exotel", "--tone", "400", "--seconds", "0.6", "--linger", "1s"),
            *("--url", bot.url, "--record", wav, "--dtmf", "1@200ms", "--call-id", "call-7"),
            EXOTEL_WS_TOKEN="t1",
        )
        self.assertEqual(program.code, 0, program.out + program.err)
        for words in ("call:", "call-7", "16 chunks, 1.6 s, 1 keys", "identical: ", "closed:", str(wav)):
            self.assertIn(words, program.out)
        self.assertIn("ok: the call stood", program.out)
        self.assertIn("undocumented: chunks under", program.err)
        self.assertEqual(bot.headers[0]["authorization"], "Bearer t1")
        with wave.open(str(wav)) as recorded:
            self.assertEqual((recorded.getframerate(), recorded.getnchannels()), (8000, 1))
            self.assertIn(tone(400, 0.6, 8000)[:1600], recorded.readframes(8000))

    @coroutine
    async def test_json_and_codes(self: Any) -> None:
        bot, bad = await self.bot(), await self.bot(greeting=[media(bytes(330))])
        short = ("simulate", "exotel", "--seconds", "0.1", "--linger", "100ms", "--json", "--url")
        good = self.start(*short, bot.url, "--calls", "3", "--user", "u", "--password", "p")
        illegal = self.start(*short, bad.url, EXOTEL_WS_USER="u", EXOTEL_WS_PASSWORD="p")
        nobody = self.start(*short, f"ws://127.0.0.1:{free_port()}")
        rate = self.start(*short, f"{bot.url}?sample-rate=16000")
        self.assertEqual([await each.ended for each in (good, illegal, nobody, rate)], [0, 1, 3, 2])
        (document,) = good.documents
        self.assertEqual((document["ok"], document["calls"], document["sent_s"]), (True, 3, 0.6))
        self.assertEqual(illegal.documents[0]["illegal"], {"not_320": 1})
        self.assertIn("illegal: audio that is not a multiple of 320 bytes (1x)", illegal.err)
        expected = f"Basic {b64encode(b'u:p').decode()}"
        self.assertEqual({headers["authorization"] for headers in bot.headers + bad.headers}, {expected})

    @coroutine
    async def test_mulaw(self: Any) -> None:
        bot = await self.bot(echo=True)
        program = await self.run_it(
            *("simulate", "exotel", "--codec", "mulaw", "--tone", "400", "--seconds", "0.6"),
            *("--linger", "1s", "--frame-ms", "40", "--json", "--url", bot.url),
        )
        self.assertEqual(program.code, 0, program.out + program.err)
        (call,) = program.documents[0]["per_call"]
        self.assertGreater(call["identical_samples"], 3000)
        self.assertIsNone(call["differs_at"])
        self.assertEqual(bot.legs[0].heard[1]["start"]["media_format"]["encoding"], "audio/x-mulaw")
        self.assertEqual(bot.legs[0].audio[:4800], pcm16_to_ulaw(tone(400, 0.6, 8000)))

    @coroutine
    async def test_at_a_terminal_it_moves_and_ctrl_c_hangs_up(self: Any) -> None:
        bot = await self.bot()
        program = self.start(
            "simulate", "exotel", "--tone", "400", "--seconds", "50", "--url", bot.url, terminal=True
        )
        await program.until(lambda: "dBFS" in program.seen)
        program.signal("INT")
        self.assertEqual(await program.ended, 0, program.seen)
        self.assertIn("ok: the call stood", program.seen)

    def test_what_is_wrong_before_anything_is_called(self) -> None:
        wav = self.mktemp_path().with_suffix(".wav")
        with wave.open(str(wav), "wb") as file:
            file.setparams((1, 2, 44100, 0, "NONE", ""))
            file.writeframes(bytes(100))
        for arguments, words in (
            ((wav,), "Exotel's calls have 8000, 16000, 24000"),
            (("--rate", "44100"), "44100"),
            (("--dtmf", "abc"), "keys of a telephone"),
            (("--param", "novalue"), "equals sign"),
            (("--user", "u"), "--user needs --password"),
            (("--user", "u", "--password", "p", "--token", "t"), "exclude each other"),
            (("--token", "a\nb"), "no token has"),
            (("--record", wav), "exists"),
            (("--record", "/nowhere/at/all.wav"), "is not a directory"),
            (("--calls", "301"), "300"),
        ):
            result = invoked("simulate", "exotel", *arguments)
            self.assertEqual(result.exit_code, 2, result.stderr)
            self.assertIn(words, result.stderr)
