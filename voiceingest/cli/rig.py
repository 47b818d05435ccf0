"""One run of a benchmark: the consumer listens first, then the load comes, then what came is counted."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from .bench import frame_length_s
from .console import Console
from .failures import CommandFailed
from .load import Dose, Load, now_us
from .readers import Wish, open_reader
from .reading import BusMessage, IReader
from .reckoning import Reckoning
from .running import Interrupt
from .streams import Plan
from .target import Trust
from .understudy import TENANT, Understudy
from .verdict import Verdict
from .watermark import RUN_BYTES

READY_TIMEOUT_S: Final = 30.0

# After the last stop: what is on its way may take so long, and no longer than this between two messages.
SETTLE_S: Final = 2.0
SETTLE_MAX_S: Final = 30.0
_POLL_S: Final = 0.05


class Rig:
    """Consumer, load and account of one run."""

    def __init__(
        self,
        reactor: Any,
        interrupt: Interrupt,
        console: Console,
        frame_samples: int,
        chosen: dict[str, Any],
    ) -> None:
        self._reactor = reactor
        self._interrupt = interrupt
        self._console = console
        self._chosen = chosen
        self._run = os.urandom(RUN_BYTES)
        self._dose = Dose(self._run, frame_samples, chosen["seconds"])
        name = f"bench-{self._run.hex()}"
        self._interactions = [f"{name}-{number}" for number in range(1, chosen["streams"] + 1)]
        self._reckoning = Reckoning(self._run, self._interactions, frame_samples)

    def _heard(self, message: BusMessage) -> None:
        self._reckoning.heard(message, now_us())

    async def by_itself(self) -> Verdict:
        """Against a daemon in a child process."""
        with tempfile.TemporaryDirectory(prefix="voiceingest-bench-") as folder:
            understudy = Understudy(self._reactor, Path(folder), self._heard)
            try:
                await understudy.up()
                plan = Plan(
                    target=understudy.target,
                    trust=Trust(),
                    tenant_id=TENANT,
                    sample_rate=int(self._chosen["rate"]),
                    frame_s=frame_length_s(self._chosen),
                    token=lambda interaction: understudy.token,
                    resume=self._chosen["resume"],
                )
                return await self._measure(plan, understudy)
            finally:
                await understudy.down()

    async def against(self, plan: Plan, wish: Wish) -> Verdict:
        """Against a daemon that runs, and a reader of its bus. Raises: ``CommandFailed``."""
        reader, _ = open_reader(self._reactor, wish, self._heard, self._console.note)
        return await self._measure(plan, reader)

    async def _measure(self, plan: Plan, reader: IReader) -> Verdict:
        # Of its own: an interrupt ends the load, and what was sent is still to be heard.
        following: Deferred[None] = ensureDeferred(reader.follow(Interrupt()))
        failures: list[Any] = []

        def failed(failure: Failure) -> None:
            failures.append(failure.value)

        following.addErrback(failed)
        try:
            await self._until_ready(reader, failures)
            load = Load(self._reactor, plan, self._interactions, self._dose, self._interrupt)
            await load.open(self._reckoning)
            where = f"{plan.target.label}, heard at {reader.label}"
            self._console.note(f"{self._chosen['streams']} streams to {where}", style="dim")
            begun_s = self._reactor.seconds()
            await load.run()
            took_s = self._reactor.seconds() - begun_s
            reports = await load.stop()
            await self._settle(load, failures)
        finally:
            reader.stop()
            await following
        if failures:
            raise failures[0]
        return Verdict(reports, self._reckoning, load, plan.sample_rate, took_s)

    async def _until_ready(self, reader: IReader, failures: list[Any]) -> None:
        end_s = self._reactor.seconds() + READY_TIMEOUT_S
        while not reader.ready.called:
            if failures:
                raise failures[0]
            if self._interrupt.asked or self._reactor.seconds() > end_s:
                raise CommandFailed(f"{reader.label} could not be listened to in time")
            await deferLater(self._reactor, _POLL_S)

    async def _settle(self, load: Load, failures: list[Any]) -> None:
        """Wait for what is still on its way."""
        end_s = self._reactor.seconds() + SETTLE_MAX_S
        heard, quiet_s = -1, self._reactor.seconds()
        while not failures and self._reactor.seconds() < min(end_s, quiet_s + SETTLE_S):
            if self._reckoning.is_complete(load.sent):
                return
            if self._reckoning.messages != heard:
                heard, quiet_s = self._reckoning.messages, self._reactor.seconds()
            await deferLater(self._reactor, _POLL_S)
