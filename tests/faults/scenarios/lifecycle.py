"""Scenarios 29, 30, 32 and the broken lines: daemons that end, and clients that come back."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any, Final

from ..account import Account
from ..bench import (
    RSS_MARGIN_BYTES,
    Scale,
    ScenarioFailed,
    hold_delivery,
    hold_lag,
    hold_neighbour,
    off_loop,
    ways_of,
)
from .base import OnPubSub


class Drained(OnPubSub):
    """SIGTERM while everybody speaks, and nobody has anywhere to go."""

    number, name = "29", "drain"
    breaks = "SIGTERM under 100 sessions (quick: 20), DRAIN_DEADLINE_S 4 (quick: 1.5); none of them resumes"
    right = (
        "readyz 503 at once, goaway, each gets its account and 1001 with nothing pending, exit 0 within "
        "the deadline"
    )
    neighbour_stays = False

    async def set_up(self) -> None:
        """Twice the load."""
        scale = self.bench.scale
        if not scale.quick:
            self.bench.scale = Scale(False, scale.streams * 2, scale.warm_s, scale.calm_s)
        self.deadline_s = scale.pick(4.0, 1.5)
        await super().set_up()

    def settings(self) -> dict[str, str]:
        """How long it may take."""
        return {**super().settings(), "DRAIN_DEADLINE_S": str(self.deadline_s)}

    async def inject(self) -> None:
        """TERM; see what is said, and how long it takes."""
        began = time.monotonic()
        self.daemon.signal(signal.SIGTERM)
        self.unready_s = -1.0
        while self.daemon.running and time.monotonic() - began < 1.0:
            if (await self.daemon.pages.get("/readyz")).status == 503:
                self.unready_s = time.monotonic() - began
                break
        self.code = await self.daemon.exit_code(self.deadline_s + 10)
        self.exit_s = time.monotonic() - began

    def judge(self, account: Account) -> None:
        """The daemon is gone: its pages and its lag are no matter."""
        row, account.ended = self.row, 0
        row.ended = 0
        hold_delivery(row, account)
        callers = self.bench.spoken["callers"]
        wrong = [
            caller["name"] for caller in callers if caller["stopped"] is None or caller["stopped"]["pending"]
        ]
        row.hold("each is told its account with nothing pending", not wrong, wrong[:3])
        codes = {close[1] for caller in callers for close in caller["closes"]}
        row.hold("each is closed with 1001", codes == {1001}, codes)
        row.hold("readyz says 503 at once", 0 <= self.unready_s <= 0.5, f"{self.unready_s:.2f} s")
        row.hold("exit code 0", self.code == 0, self.code)
        # Answering with 503 for DRAIN_LISTEN_S comes first.
        row.hold("within the deadline", self.exit_s <= self.deadline_s + 3, f"{self.exit_s:.1f} s")
        row.hold("nothing is declared lost", not account.declared, account.declared)
        row.note(f"exit {self.code} after {self.exit_s:.1f} s of {self.deadline_s} s")
        row.lag_s = row.ready_s = None


class Forced(Drained):
    """A second SIGTERM."""

    number, name = "29", "drain-forced"
    breaks = "SIGTERM twice, half a second apart, under 50 sessions with a drain deadline of 30 s"
    right = "the second one does not wait: flush, say so, go"

    async def set_up(self) -> None:
        """A deadline nobody would wait for."""
        self.deadline_s = 30.0
        await OnPubSub.set_up(self)

    async def inject(self) -> None:
        """TERM, TERM."""
        self.daemon.signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        began = time.monotonic()
        self.daemon.signal(signal.SIGTERM)
        self.code = await self.daemon.exit_code(20)
        self.exit_s = time.monotonic() - began

    def judge(self, account: Account) -> None:
        """It goes at once; what was acked is there."""
        row = self.row
        row.ended = None
        row.hold("nothing acknowledged is missing", not account.missing, "; ".join(account.samples))
        row.hold("nothing comes twice", not account.repeated, account.repeated)
        row.hold("order is kept", not account.out_of_order, account.out_of_order)
        row.hold("it goes within 3 s", self.exit_s <= 3, f"{self.exit_s:.1f} s")
        row.hold("it has ended", self.code is not None, self.code)
        row.note(f"exit {self.code} {self.exit_s:.1f} s after the second")
        row.lag_s = row.ready_s = None


class Resuming(OnPubSub):
    """All callers resume."""

    resumes = True

    async def back(self, deadline_s: float = 15.0) -> None:
        """Wait until every stream is live again."""
        end, wanted = time.monotonic() + deadline_s, self.bench.scale.streams + 1
        while time.monotonic() < end:
            active = detached = 0.0
            for daemon in self.bench.daemons:
                if daemon.running:
                    page = await daemon.pages.get("/metrics")
                    active += page.metric("ingress_sessions_active")
                    detached += page.metric("voiceingest_streams_detached")
            if active - detached >= wanted:
                return
            await asyncio.sleep(0.05)
        raise ScenarioFailed(f"{active:.0f} of {wanted} streams are live, {detached:.0f} of them detached")

    def hold_resumed(self, account: Account) -> None:
        """Everybody came back where they were."""
        self.row.note(f"{account.resumed} resumed, {account.restarted} began anew, "
                      f"back after {account.back_s:.2f} s at the latest")  # fmt: skip
        self.row.hold("no stream has to begin anew", not account.restarted, account.restarted)
        self.row.hold("nothing is declared lost", not account.declared, (account.declared, account.reasons))


class RollingRestart(Resuming):
    """Two processes on one port; the old one goes while the new one takes."""

    number, name = "30", "rolling-restart"
    breaks = (
        "two processes on one port (reusePort=1); a third is started, then the first two are ended one "
        "by one with SIGTERM"
    )
    right = (
        "no connection is refused or reset, every stream is moved and resumed, nothing is lost, nothing "
        "comes twice"
    )

    def options(self) -> dict[str, Any]:
        """A port that is shared."""
        return {"port_options": ":reusePort=1"}

    async def set_up(self) -> None:
        """Two daemons, one port."""
        bench = self.bench
        self.redis = await off_loop(bench.redis)
        self.daemon = await bench.start_daemon(self.settings(), **self.options())
        second = await bench.start_daemon(self.settings(), **self.options(), port=self.daemon.port)
        self.old = [self.daemon, second]
        await bench.consume("pubsub", ways_of(self.redis))
        await bench.call(self.daemon, resumes=True)

    async def inject(self) -> None:
        """A new one, then the old ones go."""
        self.codes: list[int | None] = []
        self.exit_s: list[float] = []
        await self.bench.start_daemon(self.settings(), **self.options(), port=self.daemon.port)
        for old in self.old:
            began = time.monotonic()
            old.signal(signal.SIGTERM)
            self.codes.append(await old.exit_code(20))
            self.exit_s.append(time.monotonic() - began)
        self.fault.end()
        await self.back()

    def judge(self, account: Account) -> None:
        """Nobody noticed but by reconnecting."""
        row = self.row
        hold_delivery(row, account)
        hold_neighbour(row)
        hold_lag(row)
        self.hold_resumed(account)
        row.hold("nothing comes twice", not account.repeated_in_flight, account.repeated_in_flight)
        row.hold("no connection is reset unanswered", not account.resets, account.resets)
        row.hold("no connection is refused", not account.refused, account.refused)
        row.hold("exit code 0", self.codes == [0, 0], self.codes)
        exits = ", ".join(f"{took:.1f} s" for took in self.exit_s)
        row.note(f"{account.unavailable} answers with 503 on the way; exits after {exits}")


class KilledDaemon(Resuming):
    """kill -9 in mid-speech, and a new one on the same port."""

    number, name = "32", "daemon-killed"
    breaks = "the daemon is killed (SIGKILL) and started again on the same port"
    right = (
        "clients resume at the new process by what was acked; nothing acked is missing; only unacked "
        "frames may come twice"
    )

    async def inject(self) -> None:
        """Kill, start."""
        self.killed_at = time.monotonic()
        await off_loop(self.daemon.kill)
        # Until it is known to be gone it may have taken frames: on a busy machine that takes its time.
        self.fault.broken_at = (time.monotonic(),)
        await self.daemon.start()
        self.fault.end()
        self.up_s = time.monotonic() - self.killed_at
        await self.back()
        self.back_s = time.monotonic() - self.killed_at

    def judge(self, account: Account) -> None:
        """The pages did not answer meanwhile."""
        hold_delivery(self.row, account)
        hold_lag(self.row)
        self.hold_resumed(account)
        self.row.note(f"ready again after {self.up_s:.1f} s, all streams after {self.back_s:.1f} s")
        # Acknowledged is every tenth frame, and what was on its way.
        bound = self.bench.scale.streams * 60
        few = account.repeated_in_flight <= bound
        self.row.hold("only the unacked come twice", few, f"{account.repeated_in_flight} of {bound}")


class KilledStranger(KilledDaemon):
    """kill -9 where the new process has another secret: it cannot know its predecessor's clients."""

    number, name = "32", "daemon-killed-no-secret"
    breaks = "the daemon is killed (SIGKILL) and started again without a RESUME_SECRET that both share"
    right = (
        "clients are told resume_refused on a connection that stays, and begin anew; nothing acked is missing"
    )
    neighbour_stays = False

    def settings(self) -> dict[str, str]:
        """Each process makes up its own secret."""
        return {**super().settings(), "RESUME_SECRET": ""}

    def judge(self, account: Account) -> None:
        """All began anew, and were told why."""
        row = self.row
        row.ended = account.ended
        hold_delivery(row, account)
        row.hold("each is told resume_refused", account.errors == {"resume_refused"}, account.errors)
        anew = account.restarted
        row.hold("each begins anew, once", anew == self.bench.scale.streams, anew)
        row.hold("nothing is declared lost", not account.declared, account.declared)
        row.note(f"{anew} began anew, back after {account.back_s:.2f} s at the latest")


_KILLS_S: Final = (0.5, 3.0)


class BrokenLines(Resuming):
    """TCP connections of the callers break again and again."""

    number, name = "tcp", "random-tcp-kills"
    breaks = (
        "each of 20 lines breaks every 0.5 to 3 s, by RST, FIN or by being left open, for 2 minutes "
        "(quick: 4 s)"
    )
    right = "published + gaps = sent, nothing twice, order kept"

    async def set_up(self) -> None:
        """Twenty callers whose lines are bad; the neighbour's is not."""
        scale = self.bench.scale
        self.bench.scale = Scale(scale.quick, min(20, scale.streams), scale.warm_s, scale.calm_s)
        bench = self.bench
        self.redis = await off_loop(bench.redis)
        self.daemon = await bench.start_daemon(self.settings())
        await bench.consume("pubsub", ways_of(self.redis))
        await bench.call(self.daemon, resumes=True, kill_s=_KILLS_S)

    async def inject(self) -> None:
        """The load does it."""
        assert self.bench.load is not None
        await asyncio.sleep(self.bench.scale.pick(120.0, 4.0))
        self.bench.load.tell({"do": "calm"})

    def judge(self, account: Account) -> None:
        """Memory too: what is left behind has to go."""
        assert self.bench.watch is not None
        seen = self.bench.watch.seen
        hold_delivery(self.row, account)
        hold_neighbour(self.row)
        hold_lag(self.row)
        self.hold_resumed(account)
        self.row.hold("nothing comes twice", not account.repeated_in_flight, account.repeated_in_flight)
        growth = seen.rss_peak - seen.rss_first
        self.row.hold("memory stays within its bound", growth <= RSS_MARGIN_BYTES, f"{growth} bytes")
        self.row.note(f"{account.kills} lines broken, {account.errors or 'no'} errors")
