"""What a scenario is, and the way most of them go: warm up, break, mend, calm, account."""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar, Final

from .account import LAG_MS, Account
from .bench import LAG_MAX_S, MIB, Bench, Fault, hold_bounds, hold_delivery
from .processes import DaemonProcess
from .row import Row

PUBLISH_BUFFER_BYTES: Final = 64 * MIB


class Scenario:
    """One thing that breaks. ``play`` is a new bench each time."""

    number: ClassVar[str]
    name: ClassVar[str]
    # For the table and the docs: what breaks, and what is right.
    breaks: ClassVar[str]
    right: ClassVar[str]
    resumes: ClassVar[bool] = False
    # Left out of --quick altogether.
    long: ClassVar[bool] = False
    # False where the daemon itself goes, for good.
    neighbour_stays: ClassVar[bool] = True

    def missing(self) -> str:
        """What this machine lacks for it; empty when nothing."""
        return ""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.row = Row(self.number, self.name, self.breaks)
        self.fault = Fault()
        self.daemon: DaemonProcess

    async def play(self) -> Row:
        """The whole of it."""
        began = time.monotonic()
        await self.set_up()
        self.row.streams = self.bench.scale.streams
        await asyncio.sleep(self.bench.scale.warm_s)
        self.fault.begin()
        await self.inject()
        self.fault.end()
        await asyncio.sleep(self.bench.scale.calm_s)
        if self.neighbour_stays:
            await self._until_calm()
        account = await self.bench.measure(self.row, self.fault, self.daemon)
        beside = self.bench.beside
        well = not (
            beside.ended or beside.restarted or beside.missing or beside.undeclared or beside.out_of_order
        )
        if self.neighbour_stays:
            self.row.hold("the neighbour's session lives and nothing of it is missing", well, beside.samples)
        self.judge(account)
        self.row.took_s = round(time.monotonic() - began, 1)
        return self.row

    async def _until_calm(self) -> None:
        """Until frames are on time again, or have had all the time they may take."""
        assert self.bench.consumer is not None
        while time.monotonic() < self.fault.over_at + LAG_MAX_S + 1.5:
            self.bench.consumer.tell({"do": "late"})
            worst_ms = (await self.bench.consumer.hear("late"))["worst_ms"]
            if worst_ms is not None and worst_ms < LAG_MS:
                return
            await asyncio.sleep(0.1)

    async def set_up(self) -> None:
        """Servers, daemon, consumer and callers, all at work when this returns."""
        raise NotImplementedError

    async def inject(self) -> None:
        """Break it, wait, mend it."""
        raise NotImplementedError

    def judge(self, account: Account) -> None:
        """Which promises hold."""
        assert self.bench.watch is not None
        hold_delivery(self.row, account)
        hold_bounds(self.row, self.bench.watch.seen, PUBLISH_BUFFER_BYTES)
        self.row.hold("no traceback in the log", "Traceback" not in self.daemon.log_text)
