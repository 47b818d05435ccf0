"""A call between a fake line and a fake agent, on a fake clock: what is heard, said, cleared, marked."""

from __future__ import annotations

import math
from array import array
from typing import Any

from twisted.internet.task import Clock

from tests.support.case import SynchronousTestCase
from voiceingest.agents import Agent
from voiceingest.audio import AudioFormat
from voiceingest.call_interfaces import CallFacts, ICall, Transcript
from voiceingest.calls import call as calls_call
from voiceingest.calls.call import Call, CallRules, Line, Surroundings
from voiceingest.calls.patience import AGENT_FAILURES_MAX_COUNT, AgentMistake
from voiceingest.deadlines import Deadlines
from voiceingest.metrics import Metrics

RATE = 8000
# 200 ms at 8 kHz: what is sent to Exotel at once.
CHUNK = 3200


def tone(seconds: float, amplitude: int = 8000, rate: int = RATE) -> bytes:
    """A sine of 400 Hz."""
    step = 2 * math.pi * 400 / rate
    return array("h", (int(amplitude * math.sin(step * n)) for n in range(int(seconds * rate)))).tobytes()


def quiet(seconds: float, rate: int = RATE) -> bytes:
    """Nobody speaks."""
    return bytes(2 * int(seconds * rate))


class Leg:
    """The line: notes what is sent and when."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.sent: list[tuple[str, Any]] = []
        self.times: list[float] = []
        self.events: list[tuple[str, dict[str, Any]]] = []

    def _note(self, what: str, value: Any = None) -> None:
        self.sent.append((what, value))
        self.times.append(self._clock.seconds())

    def send_audio(self, payload: bytes) -> None:
        self._note("audio", payload)

    def send_mark(self, label: str) -> None:
        self._note("mark", label)

    def send_clear(self) -> None:
        self._note("clear")

    def publish_event(self, event: str, fields: dict[str, Any]) -> None:
        self.events.append((event, fields))

    def hang_up(self) -> None:
        self._note("hang up")

    def words(self) -> list[str]:
        return [what for what, _ in self.sent]

    def audio(self) -> bytes:
        return b"".join(value for what, value in self.sent if what == "audio")

    def labels(self) -> list[str]:
        return [value for what, value in self.sent if what == "mark"]


class Noting(Agent):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []
        self.broken: tuple[str, ...] = ()

    def _note(self, *what: Any) -> None:
        self.heard.append(what)
        if what[0] in self.broken:
            raise RuntimeError("an agent's own mistake")

    def begin(self, call: ICall) -> None:
        self.call = call
        self._note("begin")

    def audio(self, pcm: bytes) -> None:
        self._note("audio", pcm)

    def transcript(self, transcript: Transcript) -> None:
        self._note("transcript", transcript.text)

    def dtmf(self, digit: str) -> None:
        self._note("dtmf", digit)

    def played(self, mark: str) -> None:
        self._note("played", mark)

    def interrupted(self) -> None:
        self._note("interrupted")

    def end(self, reason: str) -> None:
        self._note("end", reason)

    def words(self) -> list[str]:
        return [what[0] for what in self.heard if what[0] != "audio"]


class CallCase(SynchronousTestCase):
    """A call that has begun."""

    def setUp(self) -> None:
        self.begin()

    def begin(self, line: Line | None = None, agent: Noting | None = None, **rules: Any) -> Call:
        self.clock, self.metrics = Clock(), Metrics()
        self.clock.advance(1000.0)
        self.leg = Leg(self.clock)
        self.agent = agent or Noting()
        line = line or Line(RATE)
        audio = AudioFormat(self.agent.sample_rate or line.sample_rate)
        self.deadlines = Deadlines(self.clock)
        surroundings = Surroundings(self.clock, self.deadlines, self.metrics)
        facts = CallFacts("call-1", "sid-1", "acme", audio)
        self.call = Call(facts, line, self.leg, self.agent, CallRules(**rules), surroundings)
        self.call.begin()
        return self.call

    def pass_time(self, seconds: float, step: float = 0.01) -> None:
        for _ in range(round(seconds / step)):
            self.clock.advance(step)


class Speaking(CallCase):
    def test_the_first_chunk_goes_at_once_and_the_rest_in_real_time(self) -> None:
        said = tone(2.0)
        self.call.say(said)
        self.assertEqual(self.leg.times[0], 1000.0)
        self.pass_time(3.0)
        self.assertEqual(self.leg.audio(), said)
        self.assertEqual({len(value) for _, value in self.leg.sent}, {CHUNK})
        # By then all but the lead has been heard: never more than that is on its way.
        for number, at in enumerate(self.leg.times):
            self.assertGreaterEqual(at + 0.2 + 0.001, 1000.0 + number * 0.2)
            self.assertLess(at, 1000.0 + number * 0.2 + 0.05)
        self.assertEqual(self.metrics.chunks_sent, 10)
        self.assertEqual(self.metrics.playback_lateness.count, 10)

    def test_an_utterance_that_is_flushed_ends_in_silence(self) -> None:
        said = tone(0.25)
        self.call.say(said)
        self.call.flush()
        self.pass_time(1.0)
        sent = self.leg.audio()
        self.assertEqual(sent[: len(said)], said)
        self.assertEqual(set(sent[len(said) :]) - {0}, set())
        self.assertEqual(len(sent) % 320, 0)

    def test_an_agent_that_forgets_to_flush_loses_nothing(self) -> None:
        self.call.say(tone(0.05))
        self.pass_time(1.0)
        self.assertEqual(self.leg.audio()[:800], tone(0.05))

    def test_what_does_not_fit_is_dropped_and_counted(self) -> None:
        self.begin(playback_max_s=1.0)
        self.call.say(tone(3.0))
        self.pass_time(5.0)
        kept_ms = len(self.leg.audio()) / 16
        self.assertLessEqual(abs(self.metrics.playback_dropped["overflow"] - (3000 - kept_ms)), 30)
        self.assertLess(kept_ms, 1500)

    def test_what_can_never_fit_costs_nothing(self) -> None:
        """Ten minutes at once: neither encoded nor resampled, for that would take a third of a second."""
        encoded: list[int] = []
        self.patch(calls_call, "pcm16_to_ulaw", lambda pcm: encoded.append(len(pcm)) or bytes(len(pcm) // 2))
        call = self.begin(Line(RATE, "mulaw"), playback_max_s=10.0)
        call.say(bytes(2 * RATE * 600))
        self.assertEqual(encoded, [2 * RATE * 10])
        self.assertEqual(self.metrics.playback_dropped["overflow"], 590_000)

    def test_half_a_sample_is_dropped(self) -> None:
        call = self.begin(Line(RATE, "mulaw"))
        call.say(tone(0.2) + b"x")
        self.assertEqual(len(self.leg.audio()), CHUNK // 2)

    def test_mulaw_out_is_mulaw_and_its_silence_too(self) -> None:
        self.begin(Line(RATE, "mulaw"))
        self.call.say(bytes(2 * 100))
        self.call.flush()
        self.pass_time(1.0)
        sent = self.leg.audio()
        self.assertEqual((len(sent) % 320, set(sent)), (0, {0xFF}))

    def test_another_rate_is_resampled_both_ways(self) -> None:
        class Wide(Noting):
            sample_rate = 24000

        self.begin(agent=Wide())
        self.assertEqual(self.call.facts.audio.sample_rate, 24000)
        for _ in range(20):
            self.call.heard(tone(0.1))
        heard = sum(len(what[1]) for what in self.agent.heard if what[0] == "audio")
        self.assertLessEqual(abs(heard / 48000 - (2.0)), 0.1)
        self.call.say(tone(1.0, rate=24000))
        self.call.flush()
        self.pass_time(2.0)
        self.assertLessEqual(abs(len(self.leg.audio()) / 16000 - (1.0)), 0.03)


    def test_what_a_resampler_still_holds_goes_before_the_mark_and_with_a_clear(self) -> None:
        class Wide(Noting):
            sample_rate = 24000

        self.begin(agent=Wide())
        self.call.say(tone(0.5, rate=24000))
        self.call.mark("m")
        self.pass_time(1.0)
        self.assertEqual((len(self.leg.audio()), self.leg.words()[-1]), (RATE, "mark"))
        self.call.say(tone(0.05, rate=24000))
        self.call.clear()
        self.leg.sent.clear()
        self.call.say(quiet(0.5, rate=24000))
        self.call.flush()
        self.pass_time(1.0)
        self.assertEqual(self.leg.audio(), bytes(RATE))

    def test_an_agent_that_forgets_to_flush_is_heard_to_the_end_at_its_own_rate_too(self) -> None:
        """What the resampler holds would else be the beginning of the next utterance, or never be heard."""
        class Wide(Noting):
            sample_rate = 24000

        for seconds in (0.01, 0.4, 1.0):
            self.begin(agent=Wide())
            self.call.say(tone(seconds, rate=24000))
            self.pass_time(seconds + 1.0)
            sent = len(self.leg.audio())
            self.assertTrue(seconds * 16000 <= sent < seconds * 16000 + 330, (seconds, sent))
            self.leg.sent.clear()
            self.call.say(quiet(0.5, rate=24000))
            self.pass_time(1.5)
            self.assertEqual(set(self.leg.audio()), {0})
            self.assertEqual(len(self.deadlines), 0)

    def test_who_says_nothing_has_nothing_to_clear(self) -> None:
        self.call.clear()
        self.assertEqual(self.leg.sent, [])


class Marks(CallCase):
    def test_a_mark_stands_behind_all_that_was_said_and_is_told_when_it_is_echoed(self) -> None:
        self.call.say(tone(0.4))
        self.call.mark("hello")
        self.pass_time(1.0)
        self.assertEqual(self.leg.words(), ["audio", "audio", "mark"])
        self.assertNotIn("played", self.agent.words())
        self.call.echoed(self.leg.labels()[0])
        self.assertEqual(self.agent.heard[-1], ("played", "hello"))
        self.assertEqual(self.leg.events[-1], ("mark", {"name": "hello"}))
        self.assertEqual((self.metrics.marks["sent"], self.metrics.marks["played"]), (1, 1))

    def test_a_mark_that_is_never_echoed_is_not_waited_for(self) -> None:
        self.call.say(tone(0.2))
        self.call.mark("hello")
        self.pass_time(4.0)
        self.assertEqual(self.agent.heard[-1], ("played", "hello"))
        self.assertEqual((self.metrics.marks["lost"], self.metrics.marks["played"]), (1, 0))

    def test_echoes_of_nothing_say_nothing(self) -> None:
        before = list(self.agent.heard)
        for label in ("", "m1", "hello", "x" * 200):
            self.call.echoed(label)
        self.assertEqual(self.agent.heard, before)


class Hearing(CallCase):
    def test_the_agent_hears_what_the_caller_says(self) -> None:
        self.call.heard(tone(0.1))
        self.call.dtmf("5")
        self.call.transcript(Transcript("hello", 0, 100, True))
        self.assertEqual(self.agent.heard[1:], [("audio", tone(0.1)), ("dtmf", "5"), ("transcript", "hello")])

    def talk_over(self) -> None:
        for _ in range(10):
            self.call.heard(quiet(0.1))
            self.pass_time(0.1)
        self.call.say(tone(10.0))
        self.call.mark("never")
        self.pass_time(1.0)
        for _ in range(4):
            self.call.heard(tone(0.1))
            self.pass_time(0.1)

    def test_a_caller_who_speaks_over_the_agent_stops_it(self) -> None:
        self.talk_over()
        self.assertEqual(self.leg.words()[-1], "clear")
        self.assertEqual(self.leg.words().count("clear"), 1)
        self.assertEqual(self.agent.words()[-1], "interrupted")
        # At the first frame that was loud, of whose 100 ms it takes 60 to be speech.
        self.assertLessEqual(abs(self.leg.times[-1] - (1002.0)), 0.02)
        event, fields = self.leg.events[-1]
        self.assertEqual(event, "barge_in")
        self.assertLessEqual(abs(fields["position_ms"] - (1000)), 200)
        self.assertEqual((self.metrics.barge_ins, self.metrics.barge_in_latency.count), (1, 1))
        self.assertGreater(self.metrics.playback_dropped["cleared"], 8000)
        self.assertEqual(self.metrics.marks["lost"], 1)
        self.assertEqual(self.call.queued_ms, 0)
        self.pass_time(5.0)
        self.assertEqual(self.leg.words()[-1], "clear")

    def test_nobody_is_interrupted_who_does_not_speak(self) -> None:
        for _ in range(5):
            self.call.heard(quiet(0.1))
        for _ in range(5):
            self.call.heard(tone(0.1))
        self.assertEqual((self.leg.words(), self.agent.words(), self.metrics.barge_ins), ([], ["begin"], 0))

    def test_where_it_is_not_wanted_nobody_interrupts(self) -> None:
        class Stubborn(Noting):
            is_interruptible = False

        for agent, rules in ((Stubborn(), {}), (Noting(), {"barge_in": False})):
            self.begin(agent=agent, **rules)
            self.talk_over()
            self.call.speech_started()
            self.assertNotIn("clear", self.leg.words())

    def test_a_vendor_that_hears_speech_stops_the_agent_too(self) -> None:
        self.call.say(tone(5.0))
        self.call.speech_started()
        self.call.speech_started()
        self.assertEqual(self.leg.words(), ["audio", "audio", "clear"])
        self.assertEqual(self.agent.words()[-1], "interrupted")

    def test_after_a_clear_the_agent_speaks_at_once_again(self) -> None:
        self.talk_over()
        at = self.clock.seconds()
        self.call.say(tone(0.4))
        self.assertEqual((self.leg.words()[-1], self.leg.times[-1]), ("audio", at))


class Ending(CallCase):
    def test_it_ends_once_and_nothing_follows(self) -> None:
        self.call.say(tone(5.0))
        self.call.mark("m")
        self.call.end("stopped")
        self.call.end("disconnected")
        sent, told = list(self.leg.sent), list(self.agent.heard)
        self.assertEqual(len(self.deadlines), 0)
        self.assertEqual(told[-1], ("end", "stopped"))
        for call in (
            lambda: self.call.say(tone(1.0)),
            self.call.flush,
            lambda: self.call.mark("x"),
            self.call.clear,
            self.call.hang_up,
            lambda: self.call.publish_event("x"),
            lambda: self.call.heard(tone(0.1)),
            lambda: self.call.dtmf("1"),
            lambda: self.call.transcript(Transcript("", 0, 0, True)),
            self.call.speech_started,
            lambda: self.call.echoed("m1"),
        ):
            call()
        self.pass_time(10.0)
        self.assertEqual((self.leg.sent, self.agent.heard), (sent, told))
        self.assertEqual((self.metrics.calls, self.metrics.calls_active), (1, 0))
        self.assertGreater(self.metrics.playback_dropped["ended"], 4000)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_one_that_never_began_tells_nobody(self) -> None:
        agent = Noting()
        surroundings = Surroundings(self.clock, Deadlines(self.clock), metrics := Metrics())
        facts = CallFacts("c", "s", "acme", AudioFormat(RATE))
        Call(facts, Line(RATE), self.leg, agent, CallRules(), surroundings).end("forbidden")
        self.assertEqual((agent.heard, metrics.calls, metrics.calls_active), ([], 0, 0))

    def test_an_agent_that_hangs_up(self) -> None:
        self.call.hang_up()
        self.assertEqual(self.leg.words(), ["hang up"])


    def test_what_an_agent_does_in_its_end_is_done_to_a_call_that_is_over(self) -> None:
        def end(reason: str) -> None:
            self.agent.heard.append(("end", reason))
            self.call.hang_up()
            self.call.end("again")
            self.call.say(tone(1.0))
            self.call.mark("m")
            self.call.publish_event("summary", turns=2)

        self.agent.end = end  # type: ignore[method-assign]
        self.call.end("stopped")
        self.assertEqual((self.agent.words(), self.leg.sent), (["begin", "end"], []))
        self.assertEqual(self.leg.events, [("summary", {"turns": 2})])
        self.assertEqual(self.metrics.calls_active, 0)


class Failing(CallCase):
    def test_the_mistakes_of_an_agent_cost_its_answers_and_not_the_call(self) -> None:
        self.agent.broken = ("audio",)
        for _ in range(AGENT_FAILURES_MAX_COUNT + 5):
            self.call.heard(tone(0.02))
        self.assertEqual(self.metrics.agent_failures["exception"], AGENT_FAILURES_MAX_COUNT)
        asked = [what for what in self.agent.heard if what[0] == "audio"]
        self.assertEqual(len(asked), AGENT_FAILURES_MAX_COUNT)
        # The first and the last are told; not one line a frame.
        self.assertEqual(len(self.flushLoggedErrors(AgentMistake)), 2)
        self.call.end("stopped")
        # Or its timers and requests would go on without a call.
        self.assertEqual(self.agent.heard[-1], ("end", "stopped"))
        self.assertEqual(self.metrics.calls_active, 0)

    def test_one_mistake_is_forgiven(self) -> None:
        self.agent.broken = ("begin", "dtmf")
        self.call.dtmf("1")
        self.call.heard(tone(0.02))
        self.assertEqual(self.agent.heard[-1][0], "audio")
        self.assertEqual(len(self.flushLoggedErrors(AgentMistake)), 1)
