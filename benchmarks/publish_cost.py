"""CPU of one published frame: Delivery over RedisPubSub, against a Redis on this machine.

    redis-server --port 7777 --save "" --daemonize no &
    python benchmarks/publish_cost.py --url redis://127.0.0.1:7777

Streams hand over frames of ``--bytes`` in real time (``--rate`` a second each) or, with ``--flat``,
as fast as they are confirmed. What is measured is the CPU time of this process per confirmed frame,
its own and the kernel's for it (``getrusage``); what the same load generator costs without publishing
is measured first and taken off.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from voiceingest.reactor import install

install()

from voiceingest.audio import AudioFormat  # noqa: E402
from voiceingest.catalog import BUSES  # noqa: E402
from voiceingest.catalog import load as load_entry  # noqa: E402
from voiceingest.config.settings import Settings  # noqa: E402
from voiceingest.interfaces import StreamFacts  # noqa: E402
from voiceingest.metrics import Metrics  # noqa: E402
from voiceingest.publishers.delivery import Delivery  # noqa: E402

TICK_S = 0.005
FLAT_AHEAD = 64


class CountingSink:
    """A stream that counts."""

    def __init__(self) -> None:
        self.confirmed_count = 0
        self.dropped_count = 0

    def confirmed(self, seq: int, size_bytes: int) -> None:
        """One frame is on the bus."""
        self.confirmed_count += 1

    def dropped(self, first_seq: int, last_seq: int, reason: str, size_bytes: int) -> None:
        """Frames are not."""
        self.dropped_count += last_seq - first_seq + 1


class Load:
    """Frames from many streams, spread evenly over time."""

    def __init__(self, reactor: Any, delivery: Delivery, options: argparse.Namespace) -> None:
        self.reactor = reactor
        self.options = options
        self.audio = bytes(range(256)) * (options.bytes // 256 + 1)
        self.sinks = [CountingSink() for _ in range(options.streams)]
        self.lanes = [
            delivery.open_lane(StreamFacts("tenant-1", f"interaction-{n:06}", AudioFormat()), sink)
            for n, sink in enumerate(self.sinks)
        ]
        self.sent = [0] * options.streams
        self.total = 0
        self.publish = True

    def tick(self) -> None:
        """Hand over what is due."""
        self.reactor.callLater(TICK_S, self.tick)
        if self.options.flat:
            due = [n for n in range(len(self.lanes)) for _ in range(FLAT_AHEAD - self.lanes[n].pending)]
        else:
            elapsed = time.monotonic() - self.started
            target = int(elapsed * self.options.rate * len(self.lanes))
            due = [n % len(self.lanes) for n in range(self.total, target)]
        self.total += len(due)
        for n in due:
            self.sent[n] += 1
            if self.publish:
                # A copy: real frames are all different objects.
                self.lanes[n].publish(
                    self.sent[n], 1_790_000_000_000 + self.sent[n], self.audio[: self.options.bytes]
                )

    def run(self, seconds: float, publish: bool) -> tuple[float, float]:
        """CPU seconds used: in this program, in the kernel for it."""
        self.publish = publish
        self.started = time.monotonic()
        self.total = 0
        self.sent = [0] * len(self.lanes)
        before = resource.getrusage(resource.RUSAGE_SELF)
        self.reactor.callLater(seconds, self.reactor.crash)
        call = self.reactor.callLater(0, self.tick)
        self.reactor.run(installSignalHandlers=False)
        after = resource.getrusage(resource.RUSAGE_SELF)
        user_s, system_s = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
        for call in self.reactor.getDelayedCalls():
            if call.func == self.tick:
                call.cancel()
        return user_s, system_s


def main() -> None:
    """Run and print one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="redis://127.0.0.1:6379")
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--bytes", type=int, default=960)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--inflight", type=int, default=4194304)
    parser.add_argument("--flat", action="store_true")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()

    from twisted.internet import reactor

    metrics = Metrics()
    settings = Settings(publish_url=options.url, publish_inflight_bytes=options.inflight)
    bus = load_entry(BUSES[settings.bus_url.partition("://")[0]])(settings, reactor, metrics)
    delivery = Delivery(bus, settings, reactor, time.time, metrics)
    load = Load(reactor, delivery, options)
    idle_per_s = 0.0 if options.flat else sum(load.run(2.0, publish=False)) / 2.0
    delivery.start()
    load.run(1.0, publish=True)
    before = metrics.frames_published
    if options.profile:
        import cProfile

        profile = cProfile.Profile()
        profile.enable()
    user_s, system_s = load.run(options.seconds, publish=True)
    if options.profile:
        profile.disable()
        profile.print_stats("tottime")
    frames = metrics.frames_published - before
    dropped = sum(sink.dropped_count for sink in load.sinks)
    # A reactor that was only crashed keeps its threads; this run ends it properly.
    reactor.callLater(0, lambda: delivery.stop(1.0).addBoth(lambda _: reactor.stop()))
    reactor.run(installSignalHandlers=False)
    per_frame = [1e6 * part / frames for part in (user_s, system_s, idle_per_s * options.seconds)]
    sys.stdout.write(
        f"{frames} frames of {options.bytes} B, {frames / options.seconds:.0f}/s, {dropped} dropped, "
        f"{metrics.bus_writes} writes: {per_frame[0] + per_frame[1] - per_frame[2]:.2f} us/frame "
        f"(program {per_frame[0]:.2f} + kernel {per_frame[1]:.2f} - load generator {per_frame[2]:.2f})\n"
    )


if __name__ == "__main__":
    main()
