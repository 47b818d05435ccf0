"""One measurement: a load, a target, what it cost and what came of it on the bus."""

from __future__ import annotations

import itertools
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, Final

from .consumer import consume
from .generator import Order, generate
from .loads import FLAT, IDLE_COUNT, SMALL, TALKING, Load
from .procfs import cpu_s, rss_kib, waited_s
from .stage import EXOTEL_TOKEN, Stage
from .targets import Running

_ANSWER_S: Final = 120.0
_WARM_S: Final = 0.6
_SETTLE_S: Final = 0.3
# Nothing came for so long: nothing will.
_QUIET_S: Final = 3.0
P99_MAX_MS: Final = 50.0
_SEARCH_STEPS: Final = 4


class Failed(Exception):
    """A measurement that did not come about."""


class Part:
    """A process of the benchmark's own, at the other end of a pipe."""

    def __init__(self, context: Any, run: Any, *arguments: Any) -> None:
        self._pipe: Connection
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=run, args=(theirs, *arguments), daemon=True)
        self._process.start()
        theirs.close()

    def tell(self, word: str, argument: object = None) -> None:
        """Say what to do."""
        self._pipe.send((word, argument))

    def answer(self) -> Any:
        """What came of it. Raises: ``Failed``."""
        if not self._pipe.poll(_ANSWER_S):
            raise Failed("a part of the benchmark does not answer")
        answer = self._pipe.recv()
        if isinstance(answer, dict) and "failed" in answer:
            raise Failed(answer["failed"])
        return answer

    def ask(self, word: str, argument: object = None) -> Any:
        """Both."""
        self.tell(word, argument)
        return self.answer()

    @property
    def cpu_s(self) -> float:
        """The time it has run so far."""
        return cpu_s(self._process.pid)

    def quit(self) -> None:
        """End it."""
        self.tell("quit")
        self._process.join(5)
        self._process.kill()


class Meter:
    """Measures one target at a time; generators and consumers are its own and stay."""

    def __init__(self, stage: Stage, seconds: float) -> None:
        self._stage, self._seconds = stage, seconds
        self._context = multiprocessing.get_context("spawn")
        self._generators = [
            Part(self._context, generate) for _ in range(1 if len(stage.others) < 3 else 2)
        ]
        self._consumers: dict[str, Part] = {}
        self._runs = itertools.count(1)

    def close(self) -> None:
        """End all processes."""
        for part in (*self._generators, *self._consumers.values()):
            part.quit()

    def _consumer(self, bus: str) -> Part:
        if bus not in self._consumers:
            port = self._stage.redis.port
            if bus == "jetstream":
                assert self._stage.nats is not None
                port = self._stage.nats.port
            self._consumers[bus] = Part(self._context, consume, bus, port)
        return self._consumers[bus]

    def _orders(self, load: Load, running: Running, *, tls: bool, count: int = 0) -> list[Order]:
        port = running.tls_port if tls else running.plain_port
        bearers = self._stage.bearers if load.dialect == "ingest" else (EXOTEL_TOKEN,)
        ca = str(self._stage.tls.ca_path) if tls else ""
        run, parts = next(self._runs), len(self._generators)
        count = count or load.streams
        bounds = [count * part // parts for part in range(parts + 1)]
        talking = load.streams // parts if load.streams < count else 0
        return [
            Order(run, load, port, bearers, ca, first, last - first, talking)
            for first, last in itertools.pairwise(bounds)
        ]

    def _all(self, word: str, arguments: list[Any] | None = None) -> list[Any]:
        for part, argument in zip(
            self._generators, arguments or [None] * len(self._generators), strict=True
        ):
            part.tell(word, argument)
        return [part.answer() for part in self._generators]

    @contextmanager
    def _talking(self, orders: list[Order], consumer: Part) -> Iterator[None]:
        """Streams that have talked for a while, until the end of the block."""
        consumer.ask("begin", (orders[0].run, orders[0].load.size))
        self._all("open", orders)
        time.sleep(_SETTLE_S)
        for part in self._generators:
            part.tell("talk")
        time.sleep(_WARM_S)
        try:
            yield
        finally:
            # The answer to ``talk`` comes first.
            for part in self._generators:
                part.tell("hush")
                part.answer()

    def paced(self, running: Running, load: Load, *, tls: bool, bus: str = "pubsub") -> dict[str, Any]:
        """CPU per frame, latency and loss under a load in real time."""
        consumer = self._consumer(bus)
        with self._talking(self._orders(load, running, tls=tls), consumer):
            consumer.ask("fresh")
            began, frames = time.monotonic(), consumer.ask("count")
            cpu, own_cpu, waited = cpu_s(running.pid), self._own_cpu_s(consumer), waited_s(running.pid)
            time.sleep(self._seconds)
            # In one breath, and the cheap one first.
            used, told = cpu_s(running.pid) - cpu, consumer.ask("report")
            waited = waited_s(running.pid) - waited
            took, own_used = time.monotonic() - began, self._own_cpu_s(consumer) - own_cpu
        own = [part.answer() for part in self._generators]
        sent = sum(answer["sent"] for answer in self._all("close"))
        whole = self.came(consumer, sent)
        count = told["frames"] - frames
        if not count:
            raise Failed("nothing came on the bus")
        return {
            "cpu_us": used / count * 1e6,
            "core_share": used / took,
            "frames_per_s": count / took,
            "offered_per_s": load.offered_per_s,
            "latency_ms": told["latency_ms"],
            "waited_share": waited / took,
            "bench_share": own_used / took,
            "generator_late_ms": max(answer["late_ms"].get("p99", 0.0) for answer in own),
            "lost": sent - whole["frames"],
            "wrong": whole["wrong"],
        }

    def _own_cpu_s(self, consumer: Part) -> float:
        return consumer.cpu_s + sum(part.cpu_s for part in self._generators)

    @staticmethod
    def came(consumer: Part, sent: int) -> dict[str, Any]:
        """What came of a run, once all of it has, or nothing more does."""
        seen, quiet_from = -1, time.monotonic()
        while seen < sent and time.monotonic() - quiet_from < _QUIET_S:
            frames = consumer.ask("count")
            if frames != seen:
                seen, quiet_from = frames, time.monotonic()
            time.sleep(0.02)
        told: dict[str, Any] = consumer.ask("report")
        return told

    def flat_out(self, running: Running) -> dict[str, Any]:
        """Frames a second when there is always one more, and what each costs.

        Nobody listens meanwhile, and it is Redis that counts: with two cores, a consumer and what it is
        sent would be what is measured.
        """
        consumer = self._consumer("pubsub")
        consumer.ask("follow", "UNSUBSCRIBE")
        with self._talking(self._orders(FLAT, running, tls=False), consumer):
            began, cpu, frames = time.monotonic(), cpu_s(running.pid), self._stage.published()
            time.sleep(self._seconds)
            used, count = cpu_s(running.pid) - cpu, self._stage.published() - frames
            took = time.monotonic() - began
        for part in self._generators:
            part.answer()
        closed = self._all("close")
        consumer.ask("follow", "SUBSCRIBE")
        if not count:
            raise Failed("nothing came on the bus")
        return {
            "frames_per_s": count / took, "cpu_us": used / count * 1e6, "core_share": used / took,
            "lost": sum(answer["dropped"] for answer in closed),
        }  # fmt: skip

    def storm(self, running: Running, count: int, *, tls: bool) -> dict[str, Any]:
        """Connections, tokens and upgrades: how many a second of a core's time."""
        orders = self._orders(SMALL, running, tls=tls, count=count)
        cpu, began = cpu_s(running.pid), time.monotonic()
        opened = sum(answer["opened"] for answer in self._all("storm", orders))
        used, took = cpu_s(running.pid) - cpu, time.monotonic() - began
        return {"cpu_us": used / opened * 1e6, "per_core_s": opened / used, "per_s": opened / took}

    def memory(self, running: Running, share: float, *, tls: bool) -> dict[str, Any]:
        """What a fresh process holds for a connection that is idle, and for one that talks."""
        count, talking = int(IDLE_COUNT * share), int(TALKING.streams * share)
        consumer = self._consumer("pubsub")
        at_first = rss_kib(running.pid)
        orders = self._orders(TALKING.sized(talking), running, tls=tls, count=count)
        consumer.ask("begin", (orders[0].run, TALKING.size))
        self._all("open", orders)
        time.sleep(1.0)
        idle = rss_kib(running.pid)
        for part in self._generators:
            part.tell("talk")
        time.sleep(max(1.0, self._seconds))
        live = rss_kib(running.pid)
        for part in self._generators:
            part.tell("hush")
            part.answer()
        for part in self._generators:
            part.answer()
        self._all("close")
        idle_kib = (idle - at_first) / count
        return {
            "idle_kib": idle_kib,
            "talking_kib": idle_kib + (live - idle) / talking,
            "process_mib": at_first / 1024,
        }

    def highest(self, running: Running, cpu_us: float) -> dict[str, Any]:
        """The most streams of 960 B at 50/s with p99 below 50 ms and nothing lost: a short bisection."""
        guess = 1e6 / cpu_us / SMALL.per_s
        low, high, best = 0.0, guess * 1.5, {"frames_per_s": 0.0, "streams": 0}
        tried = guess * 0.95
        for _ in range(_SEARCH_STEPS):
            load = SMALL.sized(int(tried))
            told = self.paced(running, load, tls=False)
            held = (
                told["latency_ms"]["p99"] < P99_MAX_MS
                and not told["lost"]
                and told["frames_per_s"] > 0.98 * load.offered_per_s
            )
            if held:
                low = tried
                best = {
                    "frames_per_s": told["frames_per_s"], "streams": load.streams,
                    "p99_ms": told["latency_ms"]["p99"],
                }  # fmt: skip
            else:
                high = tried
                best["generator_late_ms"] = told["generator_late_ms"]
            tried = (low + high) / 2
        return best
