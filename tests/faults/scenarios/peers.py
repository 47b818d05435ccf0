"""Scenarios 10, 17, 18 and 28: the other side: silent, all at once, not reading, somebody else's."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from tests.support.daemon import HOST
from tests.support.sockets import PING, frame

from .. import netns
from ..account import Account
from ..audio import Mark
from ..bench import MIB, issuer
from ..guest import Guest
from ..swallow import Swallow
from ..watch import cpu_s
from .base import OnPubSub

_AWAY: Final = 5
_AWAY_SOURCE: Final = 2


class HalfOpen(OnPubSub):
    """The network swallows every packet of some callers in mid-call."""

    number, name = "10", "half-open"
    breaks = (
        "five callers vanish behind a network that drops every packet; pings 1 s, their timeout 1 s, "
        "resume window 1 s"
    )
    right = (
        "cut within interval + timeout, the stream waits the window, then ends as disconnected; the id "
        "is free"
    )

    def settings(self) -> dict[str, str]:
        """Everything in seconds."""
        return {**super().settings(), "PING_INTERVAL_S": "1", "PING_TIMEOUT_S": "1", "RESUME_WINDOW_S": "1"}

    def options(self) -> dict[str, Any]:
        """Where there is no namespace to be had, a relay stands in for the network."""
        if netns.missing():
            return {}
        self.network = netns.Netns(self.bench.addCleanup)
        return {"also_on": [self.network.near]}

    async def set_up(self) -> None:
        """The callers of ever, and five that are away."""
        await super().set_up()
        plan: dict[str, Any] = {
            "token": issuer().token(), "prefix": "away", "source": _AWAY_SOURCE, "streams": _AWAY,
        }  # fmt: skip
        self.cable: netns.Netns | Swallow
        if netns.missing():
            self.cable = Swallow(self.daemon.port, self.bench.addCleanup)
            await self.cable.start()
            self.row.note(f"with a relay: {netns.missing()}")
            await self.bench.child("load", {**plan, "ways": [(HOST, self.cable.port)]}, "started")
        else:
            self.cable = self.network
            ways = [(self.network.near, self.daemon.port)]
            await self.bench.child("load", {**plan, "ways": ways}, "started", below=self.network.below)

    async def inject(self) -> None:
        """Cut the cable; wait for the daemon to notice, then for the streams to be over."""
        self.cable.swallow()
        began = time.monotonic()
        self.noticed_s = self.free_s = -1.0
        while time.monotonic() - began < 10 and self.free_s < 0:
            page = await self.daemon.pages.get("/metrics")
            now = time.monotonic() - began
            open_ = page.metric('voiceingest_connections{transport="ingest"}')
            if open_ <= self.bench.scale.streams + 1 and self.noticed_s < 0:
                self.noticed_s = now
            if page.metric("ingress_sessions_active") <= self.bench.scale.streams + 1:
                self.free_s = now
            await asyncio.sleep(0.05)
        await self._begin_again()

    async def _begin_again(self) -> None:
        """The id is free: somebody may begin with it."""
        guest = await Guest.dial(self.daemon, issuer().token())
        self.bench.addCleanup(guest.close)
        await guest.start("t1", "away-0")
        self.again = await guest.until(lambda: guest.told, "an answer to start")
        guest.close()

    def judge(self, account: Account) -> None:
        """Noticed in time, free in time."""
        super().judge(account)
        self.row.note(f"noticed after {self.noticed_s:.1f} s, id free after {self.free_s:.1f} s")
        self.row.hold(
            "noticed within interval + timeout", 0 <= self.noticed_s <= 2.7, f"{self.noticed_s:.1f} s"
        )
        self.row.hold("free after the window", 0 <= self.free_s <= 4.2, f"{self.free_s:.1f} s")
        self.row.hold("the id can be used again", self.again[0]["event"] == "started", self.again[0])
        self.row.hold("nothing is declared lost", not account.declared, account.declared)


class Storm(OnPubSub):
    """Two thousand clients at once."""

    number, name = "17", "reconnect-storm"
    breaks = "2000 idle streams (quick: 200) lose their connections at once and all come back at once"
    right = "all are back within seconds, nobody else is hurt"

    async def set_up(self) -> None:
        """The callers of ever, and the crowd."""
        await super().set_up()
        self.crowd = int(self.bench.scale.pick(2000, 200))
        plan = {
            "ways": [(self.daemon.host, self.daemon.port)], "token": issuer().token(), "prefix": "crowd",
            "source": 3, "streams": self.crowd, "resumes": True, "silent": True,
            "dial_within_s": self.crowd / 300,
        }  # fmt: skip
        self.people = await self.bench.child("load", plan, "started")
        assert self.bench.watch is not None
        self.bench.watch.mark()

    async def inject(self) -> None:
        """All hang up, all dial."""
        used_s = cpu_s(self.daemon.pid)
        self.people.tell({"do": "storm", "within_s": 1.0})
        storm = await self.people.hear("storm", 60)
        self.took_s = float(storm["took_s"])
        self.used_s = cpu_s(self.daemon.pid) - used_s
        self.people.tell({"do": "stop"})

    def judge(self, account: Account) -> None:
        """How fast, and who was hurt."""
        super().judge(account)
        rate = self.crowd / self.took_s
        self.row.note(
            f"{self.crowd} back in {self.took_s:.1f} s: {rate:.0f} handshakes with token check a second, "
            f"{self.used_s / self.crowd * 1000:.1f} ms of CPU each (the load of the other streams included)"
        )
        self.row.hold("all are back within 15 s", self.took_s <= 15, f"{self.took_s:.1f} s")
        self.row.hold("nothing is declared lost", not account.declared, account.declared)


class Deaf(OnPubSub):
    """Clients that send and never read."""

    number, name = "18", "slow-readers"
    breaks = "20 clients with a window of 4 KiB send 375 pings a second and read no answer; WRITE_TIMEOUT_S 2"
    right = "each is cut soon after the deadline, counted as slow_consumer; memory stays bounded"

    guests: Final = 20

    def settings(self) -> dict[str, str]:
        """A short deadline."""
        return {**super().settings(), "WRITE_TIMEOUT_S": "2"}

    async def inject(self) -> None:
        """All at once, until each is cut."""
        self.cut_s = list(await asyncio.gather(*[self._ask_on(number) for number in range(self.guests)]))
        page = await self.daemon.pages.get("/metrics")
        name = "ingress_errors_total"
        self.counted = page.metric(f'{name}{{type="slow_consumer",endpoint="ingest"}}')
        self.counted += page.metric(f'{name}{{endpoint="ingest",type="slow_consumer"}}')

    async def _ask_on(self, number: int) -> float:
        """Below the rate at which a connection is paced, so that the output is what stops it."""
        guest = await Guest.dial(self.daemon, issuer().token(), deaf=True)
        self.bench.addCleanup(guest.close)
        await guest.start("t1", f"deaf-{number}")
        pings, began = frame(PING, bytes(125)) * 75, time.monotonic()
        while time.monotonic() - began < 30:
            try:
                async with asyncio.timeout(15):
                    await guest.send(pings)
            except OSError:
                break
            await asyncio.sleep(0.2)
        return time.monotonic() - began

    def judge(self, account: Account) -> None:
        """They are gone, and cost little."""
        super().judge(account)
        self.row.note(f"cut {min(self.cut_s):.1f} to {max(self.cut_s):.1f} s after the first ping; "
                      f"{self.counted:.0f} counted as slow_consumer")  # fmt: skip
        self.row.hold("each is cut within 20 s", max(self.cut_s) <= 20, f"{max(self.cut_s):.1f} s")
        self.row.hold("each is counted", self.counted == self.guests, self.counted)
        growth_mib = self.row.rss_growth_mib or 0.0
        self.row.hold("20 of them cost less than 16 MiB", growth_mib * MIB <= 16 * MIB, growth_mib)
        self.row.hold("nothing is declared lost", not account.declared, account.declared)


class Tenants(OnPubSub):
    """Another tenant wants an interaction; then its own tenant takes it over."""

    number, name = "28", "tenants-and-take-over"
    breaks = (
        "a token of tenant t2 starts t1's interaction; then a second connection of t1 takes it over "
        "while both speak"
    )
    right = "forbidden and 4403; the newer one wins, 4409 to the older, whose late frames are not published"

    async def inject(self) -> None:
        """Three connections, one interaction."""
        other = await self._guest("t2")
        await other.start("t2", "load-0")
        await other.until(lambda: other.close_code, "a close")
        self.other = (other.events("error")[-1:], other.close_code)
        spoof = await self._guest("t2")
        await spoof.start("t1", "load-0")
        await spoof.until(lambda: spoof.close_code, "a close")
        self.spoof = (spoof.events("error")[-1:], spoof.close_code)
        old = await self._guest("t1")
        await old.start("t1", "taken-7")
        await old.until(lambda: old.events("started"), "started")
        for number in range(1, 11):
            old.speak(Mark(9, 7, number, time.monotonic_ns()))
        await old.until(lambda: old.events("ack"), "the first ack")
        new = await self._guest("t1")
        await new.start("t1", "taken-7")
        # Until the older one hears of it, it goes on; what comes after is fenced.
        for number in range(11, 400):
            old.speak(Mark(9, 7, number, time.monotonic_ns()))
            if number % 10 == 0:
                new.speak(Mark(9, 7, 10000 + number // 10, time.monotonic_ns()))
                await asyncio.sleep(0.002)
        await old.until(lambda: old.ended or old.close_code, "the end of the older one")
        self.old = (old.events("error")[-1:], old.close_code)
        await new.until(lambda: new.events("started"), "started")
        new.say("stop")
        await new.until(lambda: new.events("stopped"), "stopped")
        self.epochs = [int(one.events("started")[0].get("epoch", 0)) for one in (old, new)]
        await self._overloaded()

    async def _overloaded(self) -> None:
        page = await self.daemon.pages.get("/metrics")
        self.replaced = page.total("voiceingest_streams_replaced_total")
        self.fenced = page.total("voiceingest_frames_fenced_total")

    async def _guest(self, tenant_id: str) -> Guest:
        guest = await Guest.dial(self.daemon, issuer().token(tenant_id=tenant_id))
        self.bench.addCleanup(guest.close)
        return guest

    def judge(self, account: Account) -> None:
        """Who was let in, who was not, and what came of whom."""
        super().judge(account)
        for who, (errors, code) in (("another tenant", self.other), ("a foreign tenant_id", self.spoof)):
            codes = [error["code"] for error in errors]
            self.row.hold(f"{who} is forbidden", (codes, code) == (["forbidden"], 4403), (codes, code))
        codes = [error["code"] for error in self.old[0]]
        self.row.hold(
            "the older one hears replaced", (codes, self.old[1]) == (["replaced"], 4409), (codes, self.old[1])
        )
        older, newer = self.epochs
        self.row.hold("the epoch grows", newer > older > 0, self.epochs)
        runs = [runs for source, stream, runs in self.bench.heard["runs"] if (source, stream) == (9, 7)]
        came = [number for first, last in (runs[0] if runs else []) for number in range(first, last + 1)]
        at = next((place for place, number in enumerate(came) if number > 10000), len(came))
        late = [number for number in came[at:] if number < 10000]
        self.row.note(
            f"{at} frames of the older one, {len(came) - at} of the newer; {self.fenced:.0f} fenced"
        )
        self.row.hold("nothing of the older one after the newer", not late, len(late))
        self.row.hold("both were heard", at >= 10 and len(came) > at, (at, len(came)))
        self.row.hold("the take-over is counted", self.replaced >= 1, self.replaced)
