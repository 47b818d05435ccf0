"""What every scenario stands on: servers, daemon, load, neighbour, consumer, and the clearing away."""

from __future__ import annotations

import asyncio
import functools
import secrets
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from tests.support.daemon import HOST
from tests.support.servers import RedisServer
from tests.support.tokens import Issuer

from .account import Account, calm_after_s, percentile, take_account
from .processes import Child, DaemonProcess, ScenarioFailed
from .row import Row
from .watch import Seen, Watch

MIB: Final = 1024 * 1024
# What may be added to a process under load beside what it holds for the bus.
RSS_MARGIN_BYTES: Final = 32 * MIB
LAG_MAX_S: Final = 10.0
NEIGHBOUR_MAX_MS: Final = 1000.0
LIVEZ_MAX_S: Final = 1.0
# What is recorded of the neighbour: from the beginning of the fault until so long after its end.
_AFTER_S: Final = 3.0
RESUME_SECRET: Final = secrets.token_hex(32)


@functools.cache
def issuer() -> Issuer:
    """One key for the whole run."""
    return Issuer()


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything."""

    quick: bool = False
    streams: int = 50
    warm_s: float = 2.0
    calm_s: float = 4.0

    def pick(self, full: float, quick: float) -> float:
        """One of the two."""
        return quick if self.quick else full


class Bench:
    """The things of one scenario; all are cleared away in ``clear``, last made first."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.folder = Path(tempfile.mkdtemp(prefix="voiceingest-faults-"))
        self._cleanups: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
        self.daemons: list[DaemonProcess] = []
        self.load: Child | None = None
        self.neighbour: Child | None = None
        self.consumer: Child | None = None
        self.watch: Watch | None = None
        self._reading: dict[str, Any] = {}
        # What the load and the consumer reported.
        self.spoken: dict[str, Any] = {}
        self.heard: dict[str, Any] = {}
        self.beside = Account()

    # trial's name: servers take a bench for the test they belong to.
    def addCleanup(self, f: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        """Call ``f`` in ``clear``; what it returns is awaited where that can be."""
        self._cleanups.append((f, args, kwargs))

    async def clear(self) -> None:
        """End every process and take away every file."""
        problems = []
        while self._cleanups:
            f, args, kwargs = self._cleanups.pop()
            try:
                done = f(*args, **kwargs)
                if isinstance(done, Awaitable):
                    await done
            except Exception as problem:
                problems.append(problem)
        shutil.rmtree(self.folder, ignore_errors=True)
        if problems:
            raise problems[0]

    # --- who takes part

    def redis(self, **kwargs: Any) -> RedisServer:
        """A server that answers."""
        return RedisServer(self, **kwargs)

    def make_daemon(self, settings: Mapping[str, str], **kwargs: Any) -> DaemonProcess:
        """A daemon, not started yet; a setting that is empty is left out."""
        base = {
            "JWT_PUBLIC_KEY": issuer().public_pem,
            "RESUME_SECRET": RESUME_SECRET,
            "DRAIN_DEADLINE_S": "5",
            "MAX_CONNECTIONS_PER_IP": "0",
        }
        folder = self.folder / f"daemon-{len(self.daemons)}"
        daemon = DaemonProcess(
            folder, {name: text for name, text in {**base, **settings}.items() if text}, **kwargs
        )
        self.addCleanup(daemon.kill)
        self.daemons.append(daemon)
        return daemon

    async def start_daemon(self, settings: Mapping[str, str], **kwargs: Any) -> DaemonProcess:
        """A daemon that is ready, and watched when it is the first."""
        daemon = self.make_daemon(settings, **kwargs)
        await daemon.start()
        if self.watch is None:
            self.watch = Watch(daemon)
            self.watch.start()
        return daemon

    async def child(
        self, module: str, plan: Mapping[str, Any], ready: str, below: Sequence[str] = ()
    ) -> Child:
        """A process of this package."""
        child = Child(module, plan, below)
        self.addCleanup(child.kill)
        await child.start(ready)
        return child

    async def consume(self, bus: str, ways: Sequence[tuple[str, int]], **plan: Any) -> None:
        """The consumer, subscribed."""
        self._reading = {"bus": bus, "ways": list(ways), **plan}
        self.consumer = await self.child("consumer", self._reading, "subscribed")

    def leave_out(self, port: int) -> None:
        """Do not read from there in the end: that server is gone."""
        self._reading["ways"] = [(host, other) for host, other in self._reading["ways"] if other != port]

    async def call(self, *daemons: DaemonProcess, below: Sequence[str] = (), **plan: Any) -> None:
        """The load and the neighbour, every stream started."""
        where = [(daemon.host, daemon.port) for daemon in (daemons or self.daemons[:1])]
        base = {"ways": where, "token": issuer().token(lifetime_s=86400), "tenant_id": "t1"}
        self.load = await self.child(
            "load", {**base, "streams": self.scale.streams, **plan}, "started", below
        )
        resumes = bool(plan.get("resumes", False))
        self.neighbour = await self.child(
            "load", {**base, "prefix": "neighbour", "source": 1, "pings": True, "resumes": resumes}, "started"
        )

    # --- what it comes to

    async def measure(self, row: Row, fault: Fault, daemon: DaemonProcess) -> Account:
        """End the streams in good order, and fill in the row."""
        assert self.load is not None
        assert self.neighbour is not None
        assert self.consumer is not None
        assert self.watch is not None
        until = time.monotonic()
        spoken, near = await asyncio.gather(self.load.finish("stop", 60), self.neighbour.finish("stop", 60))
        seen = await self.watch.end()
        heard = await self._heard(
            [one["name"] for one in (*spoken["callers"], *near["callers"]) if one["stopped"] is not None]
        )
        broken_at = [*fault.broken_at, *_bus_breaks(daemon)]
        self.spoken, self.heard = spoken, heard
        account = take_account(spoken, heard, broken_at=broken_at)
        beside = take_account(near, heard, source=1, broken_at=broken_at)
        _fill(row, account, seen, fault, daemon)
        row.lag_s = _rounded(calm_after_s(heard, fault.over_at, until), 1)
        row.neighbour_p99_ms = percentile(
            near["callers"][0]["pongs_ms"], 0.99, fault.began_at, fault.over_at + _AFTER_S
        )
        row.neighbour_bus_p99_ms = percentile(
            heard["neighbour_ms"], 0.99, fault.began_at, fault.over_at + _AFTER_S
        )
        self.beside = beside
        return account

    async def _heard(self, ended: list[str]) -> dict[str, Any]:
        """What the consumer saw; of a bus that keeps what it is given, what is there in the end.

        It reads on until it has had the last word of the streams that have ``ended``.

        Who reads while a primary is replaced may have read what is not there any more.
        """
        assert self.consumer is not None
        heard = await self.consumer.finish("end", 60, quiet_s=0.4, ended=ended)
        if self._reading["bus"] == "pubsub":
            return heard
        again = await self.child("consumer", self._reading, "subscribed")
        kept = await again.finish("end", 60, quiet_s=1.5, ended=ended)
        return {**kept, **{name: heard[name] for name in ("late", "neighbour_ms")}}


@dataclass(slots=True)
class Fault:
    """When it was, in monotonic seconds, and which connections broke meanwhile."""

    began_at: float = 0.0
    over_at: float = 0.0
    broken_at: tuple[float, ...] = ()

    def begin(self) -> None:
        """Now."""
        self.began_at = time.monotonic()

    def end(self) -> None:
        """Now, if that has not been said before: what broke is mended, whoever has noticed."""
        self.over_at = self.over_at or time.monotonic()


def _bus_breaks(daemon: DaemonProcess) -> list[float]:
    """When the daemon says it lost the bus, on this machine's monotonic clock."""
    # The log cuts its times to milliseconds.
    offset = time.time() - time.monotonic() - 0.001
    return [datetime.fromisoformat(line["time"]).timestamp() - offset for line in daemon.logged("bus_down")]


def _fill(row: Row, account: Account, seen: Seen, fault: Fault, daemon: DaemonProcess) -> None:
    row.frames, row.ended, row.missing = account.spoken, account.ended + account.restarted, account.missing
    row.repeated, row.in_flight_twice = account.repeated, account.repeated_in_flight
    row.out_of_order, row.declared = account.out_of_order, account.declared
    row.ack_gap_s = round(account.ack_gap_s, 2)
    row.rss_growth_mib = round((seen.rss_peak - seen.rss_first) / MIB, 1)
    row.queue_peak_kib = round(seen.queue_peak_bytes / 1024)
    row.livez_ms = round(seen.livez_slowest_s * 1000, 1)
    not_ready, ready = seen.not_ready_at(fault.began_at), seen.ready_again_at(fault.over_at)
    row.not_ready_s = None if not_ready is None else round(not_ready - fault.began_at, 1)
    row.ready_s = None if ready is None else round(ready - fault.over_at, 1)
    row.log_lines = len(daemon.log)


def hold_delivery(row: Row, account: Account) -> None:
    """The promises every scenario makes, whatever breaks."""
    examples = "; ".join(account.samples)
    row.hold("no session ends", not row.ended, f"{row.ended} ended; {examples}")
    row.hold("nothing acknowledged is missing", not account.missing, examples)
    row.hold("what is not there is declared", not account.undeclared, examples)
    row.hold("nothing comes twice but what was in flight", not account.repeated, examples)
    row.hold("order is kept", not account.out_of_order, examples)
    row.hold("every frame is whole and its own stream's", not account.foreign, account.foreign)


def hold_bounds(row: Row, seen: Seen, held_max_bytes: int) -> None:
    """Memory stays within its bound, the pages answer, the neighbour is served, the lag ends."""
    growth = seen.rss_peak - seen.rss_first
    bound = held_max_bytes + RSS_MARGIN_BYTES
    row.hold("memory stays within its bound", growth <= bound, f"{growth / MIB:.1f} of {bound / MIB:.1f} MiB")
    row.hold(
        "the queue stays within its bound", seen.queue_peak_bytes <= held_max_bytes, seen.queue_peak_bytes
    )
    row.hold("livez always answers", not seen.livez_failed, f"{seen.livez_failed} times not")
    row.hold("livez answers at once", seen.livez_slowest_s <= LIVEZ_MAX_S, f"{seen.livez_slowest_s:.2f} s")
    hold_neighbour(row)
    hold_lag(row)


def hold_neighbour(row: Row, at_most_ms: float = NEIGHBOUR_MAX_MS) -> None:
    """The neighbour is answered during the fault."""
    p99 = row.neighbour_p99_ms
    row.hold("the neighbour is answered", p99 is not None and p99 <= at_most_ms, f"p99 {p99} ms")


def hold_lag(row: Row) -> None:
    """Frames are on time again soon after."""
    row.hold(
        "lag is back under 100 ms within 10 s", row.lag_s is not None and row.lag_s <= LAG_MAX_S, row.lag_s
    )


def _rounded(figure: float | None, digits: int) -> float | None:
    return None if figure is None else round(figure, digits)


async def off_loop(call: Callable[..., Any], *args: Any) -> Any:
    """A call that blocks, in a thread: the bench goes on watching."""
    return await asyncio.to_thread(call, *args)


def ways_of(server: Any) -> list[tuple[str, int]]:
    """Where a server is, as the consumer takes it."""
    return [(HOST, int(server.port))]


__all__ = [
    "MIB", "Bench", "Fault", "Scale", "ScenarioFailed", "hold_bounds", "hold_delivery", "hold_lag",
    "hold_neighbour", "issuer", "off_loop", "ways_of",
]  # fmt: skip
