"""The second half of ``voiceingest demo``: a call as Exotel would bring it, answered by an echo."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .pacing import frame_bytes

if TYPE_CHECKING:
    from .exotel.report import CallReport
    from .running import Interrupt
    from .stage import Stage
    from .wavfile import Recording
    from .witness import Witness

RATE: Final = 8000
FRAME_MS: Final = 100
SAMPLE_BYTES: Final = 2

# The last chunk of an echo is sent when the caller has been silent for a moment; on a machine that
# was busy all of it comes later by as much.
LINGER_S: Final = 0.8
PATIENCE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """How it went: what the caller saw, and what was on the bus."""

    report: CallReport
    witness: Witness
    said_samples: int

    def problems(self) -> list[str]:
        """What was not as it should be, in words."""
        failure = self.report.failure
        found = [f"call: {failure}"] if failure else []
        found += [f"call: {problem}" for problem in self.witness.problems()]
        if self.report.identical < self.said_samples and not failure:
            came_back = f"{self.report.identical} of {self.said_samples} samples came back"
            found.append(f"call: {came_back} as they were said")
        return found

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            **self.witness.document(),
            "said_samples": self.said_samples,
            "echoed_samples": self.report.identical,
            "chunks": self.report.heard_chunks,
            "pace_ms": self.report.lateness.summary_ms(),
            "close_code": self.report.close_code,
        }

    def pairs(self) -> dict[str, str]:
        """For people."""
        witness, report = self.witness, self.report
        return {
            "call frames": f"{witness.identical} of {witness.sent} on the bus, byte for byte",
            "echo": f"{report.identical} samples back as they were said, in {report.heard_chunks} chunks",
        }


async def call(reactor: Any, interrupt: Interrupt, stage: Stage, recording: Recording) -> CallOutcome:
    """Call once, say ``recording``, listen to the echo of it."""
    from .exotel.caller import Dialling
    from .exotel.calls import run_calls
    from .exotel.conversation import Script
    from .exotel.outgoing import Leg
    from .exotel.voice import Source, first_loud
    from .witness import Witness

    call_id = f"call-{os.urandom(4).hex()}"
    witness = Witness(stage.tenant_id, call_id, RATE)
    unsubscribe = stage.subscribe(lambda channel, payload: witness.message(payload, reactor.seconds()))
    script = Script(
        Source(recording.pcm, len(recording.pcm), b"\0", first_loud(recording.pcm)),
        frame_bytes(RATE, FRAME_MS, SAMPLE_BYTES),
        FRAME_MS / 1000,
        LINGER_S,
        bytes,
        PATIENCE_S,
    )
    dialling = Dialling(stage.call_url, authorization=f"Bearer {stage.call_token}", trust=stage.trust)
    leg = Leg(call_id, f"stream-{os.urandom(4).hex()}", sample_rate=RATE)
    try:
        (report,) = await run_calls(
            reactor, dialling, script, [leg], interrupt,
            lambda pcm: witness.sending(pcm, reactor.seconds()),
        )  # fmt: skip
        await until_heard(reactor, witness)
    finally:
        unsubscribe()
    return CallOutcome(report, witness, len(recording.pcm) // SAMPLE_BYTES)


# What is still on its way when a connection is closed is on the bus within a moment.
_TURN_S: Final = 0.02
_TURNS_MAX_COUNT: Final = 50


async def until_heard(reactor: Any, witness: Witness) -> None:
    """Wait for what is still on its way: the last event is put on the bus after the close."""
    from twisted.internet.task import deferLater

    for _ in range(_TURNS_MAX_COUNT):
        if witness.complete:
            return
        await deferLater(reactor, _TURN_S)
