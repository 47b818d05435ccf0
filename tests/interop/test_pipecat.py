"""The dialect of Exotel as pipecat has it, which answers its calls with an implementation of its own.

pipecat is a bot, as the daemon is: its ``ExotelFrameSerializer`` reads what Exotel sends and writes what
Exotel takes. Three things are proved, each with pipecat in a process of its own:

- Our simulated Exotel is one to pipecat: it recognizes the call by its ``start``, hears the very samples
  and keys, and what it answers (``media``, ``clear``) breaks none of the rules we check bots by.
- What it writes, the daemon reads: audio in pipecat's messages is heard sample for sample. What the
  daemon answers, pipecat reads: the same samples come out of its serializer.
- Both write the same: a message of the daemon, without the numbers that pipecat leaves out, is pipecat's
  message for the same audio. That holds for ``clear`` too; pipecat has no ``mark``.

It does not prove that Exotel takes either; that only Exotel can say.
"""

from __future__ import annotations

import base64
import json
import random
import subprocess
import sys
from collections.abc import Generator
from typing import Any, Final

from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest

from tests.interop import pipecat_home
from tests.interop.test_clients import InteropCase
from tests.support.case import SynchronousTestCase
from tests.support.daemon import ROOT
from voiceingest.wire import exotel

TOKEN: Final = "a-token-for-pipecat"
# Two seconds at 8 kHz in which no sample is like its neighbours.
SPOKEN: Final = random.Random(4).randbytes(2 * 16000)


def environment() -> dict[str, str]:
    """Of a program that imports pipecat. Raises: ``SkipTest`` when that cannot be had."""
    try:
        return pipecat_home.environment()
    except pipecat_home.Unavailable as reason:
        raise SkipTest(str(reason)) from reason


def program(name: str) -> list[str]:
    """A client of these tests."""
    return [sys.executable, "-m", f"tests.interop.clients.{name}"]


class BotTests(SynchronousTestCase):
    """Our simulated Exotel calls a bot of pipecat."""

    def test_it_is_exotel_to_pipecat_and_pipecat_keeps_its_rules(self) -> None:
        environ, audio = environment(), self.mktemp_path()
        audio.write_bytes(SPOKEN)
        pipe = subprocess.PIPE
        with subprocess.Popen(
            program("pipecat_bot"), cwd=ROOT, env=environ, stdout=pipe, stderr=pipe, text=True
        ) as bot:
            assert bot.stdout is not None
            port = bot.stdout.readline().strip()
            if not port:
                self.fail(f"the bot did not start: {bot.communicate()[1][-2000:]}")
            done = self.call(f"ws://127.0.0.1:{port}/", str(audio))
            told, errors = bot.communicate(timeout=30)
        self.assertEqual((done.returncode, bot.returncode), (0, 0), done.stderr + errors[-2000:])
        self.check_heard(json.loads(told))
        self.check_answered(json.loads(done.stdout))

    def call(self, url: str, audio: str) -> subprocess.CompletedProcess[str]:
        """The command, as a user has it."""
        command = [sys.executable, "-m", "voiceingest.cli", "simulate", "exotel", audio, "--json"]
        command += ["--url", url, "--call-id", "call-1", "--from", "0987", "--to", "0801"]
        command += ["--dtmf", "5@500ms", "--linger", "500ms"]
        environ = {"PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30, check=False
        )

    def check_heard(self, told: dict[str, Any]) -> None:
        """What pipecat made of the call."""
        self.assertEqual((told["kind"], told["call_id"]), ("exotel", "call-1"))
        self.assertEqual((told["from"], told["to"], told["digits"]), ("0987", "0801", "5"))
        self.assertTrue(told["stream_id"])
        heard = base64.b64decode(told["heard"])
        self.assertTrue(heard.startswith(SPOKEN), "pipecat heard something else")
        # Then the caller is silent.
        self.assertEqual(set(heard[len(SPOKEN) :]) - {0}, set())

    def check_answered(self, summary: dict[str, Any]) -> None:
        """What we made of pipecat's answer."""
        (call,) = summary["per_call"]
        self.assertEqual((summary["illegal"], call["clears"], call["failure"]), ({}, 1, None))
        self.assertGreaterEqual(call["identical_samples"], len(SPOKEN) // 2)
        self.assertIsNone(call["differs_at"])


class DaemonTests(InteropCase):
    """pipecat's serializer is the other end of a daemon's line."""

    @inlineCallbacks
    def test_both_read_and_write_the_same(self) -> Generator[Deferred[Any], Any, None]:
        environ = environment()
        daemon = yield self.start_daemon(PUBLISH_URL="memory://", EXOTEL_WS_TOKEN=TOKEN)
        given = {"WS_URL": daemon.ws_url("/voicebot/ws"), "SPOKEN": base64.b64encode(SPOKEN).decode()}
        command = program("pipecat_caller")
        out, errors, code = yield getProcessOutputAndValue(
            command[0], command[1:], {**environ, **given, "EXOTEL_WS_TOKEN": TOKEN}
        )
        self.assertEqual(code, 0, errors.decode(errors="replace")[-2000:])
        told = json.loads(out)
        self.assertEqual((told["close"], told["strange"]), (1000, 0))
        self.assertTrue(base64.b64decode(told["heard"]) == SPOKEN, "the samples differ")
        clear, *said = told["sent"]
        self.assertEqual([without_numbers(message) for message in told["came"]], said)
        ours = exotel.encode_clear(exotel.parts(clear["stream_sid"]), 1)
        self.assertEqual(without_numbers(json.loads(ours)), clear)


def without_numbers(message: dict[str, Any]) -> dict[str, Any]:
    """A message of the daemon's, as far as pipecat fills it in."""
    kept = {name: value for name, value in message.items() if name != "sequence_number"}
    if "media" in kept:
        kept["media"] = {"payload": kept["media"]["payload"]}
    return kept
