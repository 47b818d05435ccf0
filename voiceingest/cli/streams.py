"""Sending: one stream in step with the clock, or many of them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredSemaphore, ensureDeferred, gatherResults
from twisted.internet.task import deferLater

from .client import Endurance, IngestClient
from .failures import CommandFailed, Exit
from .pacing import Pace
from .running import Interrupt
from .session import Identity
from .tally import Tally
from .target import Target, Trust

# Handshakes under way at once, so that a thousand streams do not look like a reconnect storm.
OPENING_MAX_COUNT: Final = 50
STOP_TIMEOUT_S: Final = 20.0

# As fast as the server takes: the reactor gets its turn after so many frames, to read the acks.
BURST_FRAMES: Final = 16


@dataclass(frozen=True, slots=True)
class Plan:
    """What every stream of a run has in common. ``frame_s`` 0: as fast as the server takes."""

    target: Target
    trust: Trust
    tenant_id: str
    sample_rate: int
    frame_s: float
    token: Callable[[str], str | None] = field(repr=False)
    renewable: bool = False
    resume: bool = True


@dataclass(slots=True)
class StreamReport:
    """How one stream went. ``failure`` is ``None`` when every frame was confirmed."""

    interaction_id: str
    tally: Tally
    seconds: float = 0.0
    failure: str | None = None
    hint: str | None = None
    exit_code: int = Exit.OK
    close_code: int | None = None
    http_status: int | None = None
    tls_version: str = ""


Progress = Callable[[bytes, Tally], None]


class Stream:
    """One stream from connect to close. Expected failures end up in its report, not in the air."""

    def __init__(self, reactor: Any, plan: Plan, interaction_id: str, interrupt: Interrupt) -> None:
        self._reactor = reactor
        self._plan = plan
        self._interrupt = interrupt
        self._begun_s = 0.0
        self.interaction_id = interaction_id
        self.report = StreamReport(interaction_id, Tally())
        self.client: IngestClient | None = None

    async def run(
        self,
        frames: Iterable[bytes],
        *,
        gate: DeferredSemaphore,
        lag_s: float = 0.0,
        progress: Progress | None = None,
    ) -> StreamReport:
        """Open, send ``frames`` in step, stop. ``lag_s`` moves the beats of one stream against another's."""
        client = await self.open(gate)
        if client is not None:
            await self._send(client, frames, self._begun_s + lag_s, progress)
        return await self.stop()

    async def open(self, gate: DeferredSemaphore) -> IngestClient | None:
        """Begin the stream; ``None`` when it cannot be."""
        try:
            self.client = client = self._client()
            self.report.tally = client.tally
            await gate.run(lambda: ensureDeferred(client.open()))
        except CommandFailed as failed:
            report = self.report
            report.failure, report.hint, report.exit_code = failed.message, failed.hint, failed.exit_code
            return None
        self._begun_s = self._reactor.seconds()
        return client

    async def stop(self) -> StreamReport:
        """Stop the stream, where it began, and say how it went."""
        if self.client is not None and self.report.failure is None:
            await self.client.stop(STOP_TIMEOUT_S)
            self.report.seconds = self._reactor.seconds() - self._begun_s
        self._conclude(self.report)
        return self.report

    def _client(self) -> IngestClient:
        plan = self._plan
        identity = Identity(plan.tenant_id, self.interaction_id, plan.sample_rate)

        def renew() -> str:
            return plan.token(self.interaction_id) or ""

        return IngestClient(
            self._reactor,
            plan.target,
            identity,
            plan.token(self.interaction_id),
            trust=plan.trust,
            renew=renew if plan.renewable else None,
            endurance=Endurance(resume=plan.resume, live=plan.frame_s > 0),
        )

    async def _send(
        self, client: IngestClient, frames: Iterable[bytes], start_s: float, progress: Progress | None
    ) -> None:
        pace = Pace(start_s, self._plan.frame_s)
        for index, frame in enumerate(frames):
            wait_s = pace.wait_s(index, self._reactor.seconds())
            if wait_s > 0 or index % BURST_FRAMES == 0:
                await deferLater(self._reactor, wait_s)
            if self._interrupt.asked or not await client.room():
                return
            tally = client.tally
            tally.late_max_s = max(tally.late_max_s, pace.late_s(index, self._reactor.seconds()))
            client.send(frame)
            if progress is not None:
                progress(frame, tally)

    def _conclude(self, report: StreamReport) -> None:
        """Fill in how it ended, and whether that was well."""
        client = self.client
        if client is None:
            return
        report.tls_version = client.tls_version
        ending = client.ending
        if ending is not None:
            report.close_code, report.http_status = ending.close_code, ending.http_status
        if report.failure is None and client.gave_up is not None:
            gave_up = client.gave_up
            report.failure = f"the connection was lost and the stream could not go on: {gave_up.message}"
            report.hint, report.exit_code = gave_up.hint, gave_up.exit_code
        meaning = report.tally.problem(ending)
        if report.failure is None and meaning is not None:
            report.failure, report.hint, report.exit_code = meaning.text, meaning.hint or None, Exit.REFUSED


async def run_streams(
    reactor: Any,
    plan: Plan,
    interactions: list[str],
    frames_of: Callable[[], Iterable[bytes]],
    interrupt: Interrupt,
    progress: Progress | None = None,
) -> list[StreamReport]:
    """Run one stream for each of ``interactions``, their frames spread over the frame length."""
    gate = DeferredSemaphore(OPENING_MAX_COUNT)
    streams = [Stream(reactor, plan, name, interrupt) for name in interactions]
    interrupt.when().addCallback(_hang_up_unopened, streams)
    running: list[Deferred[StreamReport]] = []
    for number, stream in enumerate(streams):
        lag_s = plan.frame_s * number / len(streams)
        running.append(ensureDeferred(stream.run(frames_of(), gate=gate, lag_s=lag_s, progress=progress)))
    return await gatherResults(running, consumeErrors=True)


def _hang_up_unopened(asked: None, streams: list[Stream]) -> None:
    for stream in streams:
        if stream.client is not None and stream.client.tally.started is None:
            stream.client.abort()


def worst(reports: list[StreamReport]) -> int:
    """The exit code of a run: 0, else the most telling one of its streams."""
    codes = {report.exit_code for report in reports if report.failure is not None}
    if codes == {int(Exit.NO_CONNECTION)}:
        return Exit.NO_CONNECTION
    if Exit.USAGE in codes:
        return Exit.USAGE
    return Exit.REFUSED if codes else Exit.OK
