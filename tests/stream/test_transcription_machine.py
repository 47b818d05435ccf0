"""One stream's transcription by chance: audio, connections that die, results, time; checked always.

Every sample is its own position in the stream, at 1000 samples a second: a sample is a millisecond.
What the far end heard is therefore known sample by sample, and so is what its results are about.
"""

from __future__ import annotations

import struct

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.case import SynchronousTestCase
from voiceingest.stream.pace import BURST_S, PIECE_S, REALTIME_FACTOR
from voiceingest.stream.transcribing_states import Hearing
from voiceingest.stream.transcription import CUTS, Transcription, Wake
from voiceingest.wire.deepgram import Results

RATE = 1000
BUFFER_MS = 300
CONNECTED = (Hearing.OPEN, Hearing.CLOSING)


class TranscriptionMachine(RuleBasedStateMachine):
    """Drives it as the transcriber does, and keeps its own account."""

    @initialize()
    def begin(self) -> None:
        self.now = 100.0
        self.memory = Transcription(RATE, BUFFER_MS, 10.0)
        self.position = 0
        self.covered: set[int] = set()
        self.gapped: set[int] = set()
        # This connection: what it heard, how much of it is final, when it began.
        self.heard: list[int] = []
        self.final_count = 0
        self.opened_at = 0.0
        self.last_start = self.last_final_end = 0

    # --- what happens

    @rule(counts=st.lists(st.sampled_from([1, 20, 20, 20, 60, 400]), min_size=1, max_size=10))
    def audio(self, counts: list[int]) -> None:
        for count in counts:
            if self.position + count < 2**16:
                positions = range(self.position, self.position + count)
                self.memory.audio(struct.pack(f"<{count}H", *positions), self.now)
                self.position += count
                self.turn()

    @rule(seconds=st.sampled_from([0.001, 0.02, 0.1, 0.1, 0.6, 4.0, 11.0]))
    def time(self, seconds: float) -> None:
        self.now += seconds
        self.turn()

    @rule()
    @precondition(lambda self: self.memory.state is Hearing.CONNECTING)
    def open(self) -> None:
        self.memory.opened(self.now)
        self.heard, self.final_count, self.opened_at = [], 0, self.now
        self.turn()

    @rule(jitter=st.sampled_from([0.0, 1.0]), is_normal=st.booleans())
    @precondition(lambda self: self.memory.state in (Hearing.CONNECTING, *CONNECTED))
    def die(self, jitter: float, is_normal: bool) -> None:
        if is_normal and self.memory.state is Hearing.CLOSING:
            self.covered |= set(self.heard) - self.gapped
        self.memory.ended(self.now, jitter, is_normal=is_normal)
        self.turn()

    @rule(blocked=st.booleans())
    @precondition(lambda self: self.memory.state is Hearing.OPEN)
    def block(self, blocked: bool) -> None:
        self.memory.blocked(blocked, self.now)
        self.turn()

    @rule(count=st.sampled_from([200, 301, 320, 700]), seconds=st.sampled_from([0.0, 0.05, 2.0]))
    @precondition(lambda self: self.memory.state is Hearing.OPEN)
    def stall(self, count: int, seconds: float) -> None:
        """The peer does not read, for less than the audio that is kept or for more."""
        self.block(True)
        self.audio([count])
        self.now += seconds
        self.block(False)

    @rule(data=st.data(), is_final=st.booleans(), speech_final=st.booleans(), text=st.sampled_from(["", "a"]))
    @precondition(lambda self: self.memory.state in CONNECTED and self.heard)
    def result(self, data: st.DataObject, is_final: bool, speech_final: bool, text: str) -> None:
        end = data.draw(st.integers(0, len(self.heard) + 5), label="end")
        start = data.draw(st.integers(0, end), label="start")
        self.memory.answered()
        told = Results(text, start / RATE, (end - start) / RATE, is_final, speech_final, False, 0.5)
        heard = self.memory.results(told)
        if is_final:
            self.covered |= set(self.heard[:end]) - self.gapped
            self.final_count = max(self.final_count, end)
        if heard is not None:
            assert heard.start <= heard.end
            assert heard.start >= self.last_start, "back in time"
            assert heard.start >= self.last_final_end, "said twice"
            assert heard.end <= self.position
            self.last_start = heard.start
            if heard.is_final:
                self.last_final_end = heard.end
            if heard.text:
                assert heard.end in (heard.start, self.heard[min(end, len(self.heard)) - 1] + 1)
        self.turn()

    @rule()
    @precondition(lambda self: self.memory.state in CONNECTED and self.heard)
    def all_is_final(self) -> None:
        count = len(self.heard)
        self.memory.results(Results("a", 0.0, count / RATE, True, False, False, 0.5))
        self.covered |= set(self.heard) - self.gapped
        self.last_final_end = max(self.last_final_end, self.heard[-1] + 1)
        self.last_start = max(self.last_start, self.memory._turns._said_to)
        self.turn()

    @rule()
    @precondition(lambda self: self.memory.state is Hearing.CLOSING)
    def account(self) -> None:
        self.memory.accounted(len(self.heard) / RATE)
        self.covered |= set(self.heard) - self.gapped
        self.turn()

    @rule()
    @precondition(lambda self: self.position > 3000 and self.memory.state is Hearing.CONNECTING)
    def refuse(self) -> None:
        self.memory.refused()
        self.turn()

    # --- as the transcriber does

    def turn(self) -> None:
        memory = self.memory
        for _ in range(10_000):
            wake = memory.wake(self.now)
            if wake is Wake.NOTHING:
                break
            if wake is Wake.CONNECT:
                memory.connecting(self.now)
            elif wake is Wake.SEND:
                piece = memory.piece(self.now)
                self.sent(struct.unpack(f"<{len(piece) // 2}H", piece))
            elif wake is Wake.KEEP_ALIVE:
                memory.said(self.now)
            elif wake is Wake.FINALIZE:
                memory.finalizing(self.now)
            elif wake is Wake.CLOSE_STREAM:
                memory.closing(self.now)
            elif wake in CUTS:
                memory.ended(self.now, 0.5)
            else:
                memory.end()
        else:
            raise AssertionError("it never comes to rest")
        self.read_gaps()
        assert memory.state is Hearing.OVER or memory.next_deadline() > self.now, "it would spin"

    def sent(self, positions: tuple[int, ...]) -> None:
        assert positions, "an empty message ends a stream"
        assert not set(positions) & self.covered, "sent again though final"
        assert not set(positions) & self.gapped, "sent though declared lost"
        assert not set(positions) & set(self.heard), "sent twice"
        self.heard += positions
        allowed = (self.now - self.opened_at + BURST_S) * REALTIME_FACTOR + PIECE_S
        assert len(self.heard) <= allowed * RATE + 1, "faster than it takes"

    def read_gaps(self) -> None:
        for gap in self.memory.take_gaps():
            assert gap.samples == gap.to_ms - gap.from_ms > 0
            samples = set(range(gap.from_ms, gap.to_ms))
            assert not samples & self.gapped, "in two gaps"
            assert not samples & self.covered, "declared lost though final"
            self.gapped |= samples

    @invariant()
    def bound(self) -> None:
        assert len(self.memory._backlog._held) <= 2 * BUFFER_MS

    def teardown(self) -> None:
        if not hasattr(self, "memory"):
            return
        self.memory.end()
        self.read_gaps()
        assert self.gapped | self.covered == set(range(self.position)), "neither final nor in a gap"


class TranscriptionMachineTests(SynchronousTestCase):
    def test_every_sample_is_accounted_for(self) -> None:
        run_state_machine_as_test(
            TranscriptionMachine, settings=settings(max_examples=100, stateful_step_count=50, deadline=None)
        )
