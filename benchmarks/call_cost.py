"""What a call costs the daemon: CPU of its process per message and per call, memory, and its punctuality.

    python benchmarks/call_cost.py --calls 100 --seconds 60 --message-ms 20 [--json]

Starts a Redis and ``twistd -n voiceingest`` with the echo agent on free ports, and calls it as Exotel
does, at 8 kHz, from a process of its own on raw sockets. Every chunk that comes back is compared with
what was said. CPU is user + system time of the daemon's process as the scheduler accounts it; it is
all that a message causes: reading, publishing, the agent, its share of the chunks that are sent.
Lateness is told twice: by the daemon against its own pace (the bounds of /metrics's buckets), and by
the callers, for whom chunks are due 200 ms apart from the first.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import multiprocessing
import os
import re
import struct
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ingest_cost import House
from benchmarks.procfs import cpu_s, rss_kib

BYTES_PER_MS = 16
CHUNK_MS = 200
TOKEN = "a-token-for-the-bench"


def audio_of(number: int, size: int) -> bytes:
    """The audio of one message, told apart from every other."""
    return struct.pack("<I", number) * (size // 4)


def client_frame(payload: bytes) -> bytes:
    """A masked text frame; the mask is zero so that masking costs the load generator nothing."""
    size = struct.pack("!BBH", 0x81, 0x80 | 126, len(payload))
    if len(payload) < 126:
        size = struct.pack("!BB", 0x81, 0x80 | len(payload))
    return size + b"\0\0\0\0" + payload


class Line:
    """One call: what it says, and what became of it."""

    def __init__(self, index: int, size: int) -> None:
        self._index = index
        self._size = size
        self.sequence = 0
        self.heard = self.wrong = 0
        self.arrivals: list[float] = []
        self.own_lateness: list[float] = []

    async def dial(self, port: int) -> None:
        """Everything up to the first audio."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", port)
        self._writer.write(
            f"GET /voicebot/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
            f"Authorization: Bearer {TOKEN}\r\n\r\n".encode()
        )
        head = await self._reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in head:
            raise RuntimeError(head)
        self._writer.write(client_frame(b'{"event":"connected"}'))
        form = {"encoding": "audio/x-raw", "sample_rate": "8000", "bit_rate": "16"}
        sids = {"stream_sid": f"s{self._index}", "call_sid": f"c{self._index}", "account_sid": "bench1"}
        self._tell("start", {**sids, "from": "0987", "to": "0801", "media_format": form})

    def _tell(self, event: str, fields: dict[str, Any]) -> None:
        self.sequence += 1
        told = {"event": event, "sequence_number": str(self.sequence), "stream_sid": f"s{self._index}"}
        self._writer.write(client_frame(json.dumps({**told, event: fields}).encode()))

    async def talk(self, messages: int, every_s: float, at: float) -> None:
        """Say all messages in real time, hear them, and hang up."""
        hearing = asyncio.create_task(self._hear(messages * self._size // (CHUNK_MS * BYTES_PER_MS)))
        for number in range(messages):
            delay = at - time.monotonic()
            if delay > 0:
                await asyncio.sleep(delay)
            self.own_lateness.append(time.monotonic() - at)
            payload = base64.b64encode(audio_of(number, self._size)).decode()
            timestamp = str(number * self._size // BYTES_PER_MS)
            self._tell("media", {"chunk": str(number + 1), "timestamp": timestamp, "payload": payload})
            at += every_s
        await asyncio.wait_for(hearing, 30)
        self._tell("stop", {"call_sid": f"c{self._index}", "reason": "callended"})
        # Close code 1000, by which everything is on the bus.
        await self._reader.readuntil(b"\x88\x02\x03\xe8")
        self._writer.close()

    async def _hear(self, chunks: int) -> None:
        parts = CHUNK_MS * BYTES_PER_MS // self._size
        while self.heard < chunks:
            head = await self._reader.readexactly(2)
            size = head[1] if head[1] < 126 else int.from_bytes(await self._reader.readexactly(2), "big")
            body = await self._reader.readexactly(size)
            if not body.startswith(b'{"event":"media"'):
                continue
            self.arrivals.append(time.monotonic())
            first = self.heard * parts
            said = b"".join(audio_of(number, self._size) for number in range(first, first + parts))
            self.wrong += base64.b64decode(json.loads(body)["media"]["payload"]) != said
            self.heard += 1


def spread(values: list[float]) -> dict[str, float]:
    """Some seconds in milliseconds, from the middle to the worst."""
    values.sort()
    ranks = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {
        name: round(values[min(len(values) - 1, int(len(values) * rank))] * 1000, 2)
        for name, rank in ranks.items()
    }


def generate(options: argparse.Namespace, house: House, results: Any) -> None:
    """The load, in a process of its own."""

    async def run() -> dict[str, Any]:
        pid, every_s = house.pid, options.message_ms / 1000
        messages = int(options.seconds / every_s) // 10 * 10
        lines = [Line(index, options.message_ms * BYTES_PER_MS) for index in range(options.calls)]
        idle_kib = rss_kib(pid)
        for line in lines:
            await line.dial(house.port)
        await asyncio.sleep(1)
        before, began = cpu_s(pid), time.monotonic()
        talks = [
            asyncio.create_task(line.talk(messages, every_s, began + every_s * index / len(lines)))
            for index, line in enumerate(lines)
        ]
        await asyncio.sleep(options.seconds * 0.8)
        live_kib = rss_kib(pid)
        await asyncio.gather(*talks)
        used, took = cpu_s(pid) - before, time.monotonic() - began
        sent = messages * len(lines)
        seen = [
            at - line.arrivals[0] - number * CHUNK_MS / 1000
            for line in lines
            for number, at in enumerate(line.arrivals)
        ]
        return {
            "sent": sent,
            "chunks_heard": sum(line.heard for line in lines),
            "wrong": sum(line.wrong for line in lines),
            "cpu_us_per_message": round(used / sent * 1e6, 1),
            "cpu_ms_per_call_second": round(used / (len(lines) * options.seconds) * 1000, 3),
            "cpu_share": round(used / took, 3),
            "kib_per_call": round((live_kib - idle_kib) / len(lines), 1),
            "rss_mib": round(live_kib / 1024, 1),
            "callers_saw_ms": spread(seen),
            "load_late_ms": spread([late for line in lines for late in line.own_lateness]),
        }

    results.put(asyncio.run(run()))


def told_by_metrics(admin_port: int) -> dict[str, Any]:
    """What the daemon says of its own punctuality, and how much it has published."""
    with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    buckets = re.findall(r'^voiceingest_playback_lateness_seconds_bucket\{le="([^"]+)"\} (\S+)$', text, re.M)
    count = float(buckets[-1][1])
    within = {
        name: next(float(bound) for bound, below in buckets if float(below) >= share * count) * 1000
        for name, share in (("p50", 0.5), ("p99", 0.99))
    }
    published = re.search(r"^voiceingest_frames_published_total (\S+)$", text, re.M)
    return {"published": int(float(published[1])) if published else 0, "daemon_late_ms_at_most": within}


def main() -> int:
    """Run once and print the figures; exit code 1 when audio was lost or changed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--message-ms", type=int, choices=(20, 40, 100, 200), default=100)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    house = House(False, EXOTEL_WS_TOKEN=TOKEN)
    figures: dict[str, Any] = {
        "calls": options.calls, "seconds": options.seconds, "message_ms": options.message_ms,
    }  # fmt: skip
    try:
        results: Any = multiprocessing.Queue()
        load = multiprocessing.Process(target=generate, args=(options, house, results), daemon=True)
        load.start()
        load.join(options.seconds + 60)
        if load.exitcode != 0:
            raise SystemExit("the load generator failed")
        figures.update(results.get())
        figures.update(told_by_metrics(house.admin_port))
    finally:
        house.close()
    print(
        json.dumps(figures)
        if options.json
        else "\n".join(f"{name:24} {value}" for name, value in figures.items())
    )
    return 0 if figures["sent"] == figures["published"] and not figures["wrong"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
