"""What a frame costs the daemon: CPU of its process per frame, memory per stream, loss and order.

    python benchmarks/ingest_cost.py --streams 100 --seconds 60 [--tls] [--json]

Starts a Redis and ``twistd -n voiceingest`` on free ports, sends 960-byte frames (20 ms at 24 kHz)
at 50 a second on each stream from a process of its own, and subscribes with a third one, which
checks that every frame arrives, in order, byte for byte. CPU is user + system time of the daemon's
process as the scheduler accounts it, between the first frame and the last confirmation.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import multiprocessing
import os
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.procfs import cpu_s, rss_kib  # noqa: E402

RATE_HZ = 24000
FRAME_BYTES = 960
FRAMES_PER_S = 50


def payload_of(stream: int, seq: int) -> bytes:
    """A frame that says whose it is and which; seq counts from 1."""
    return struct.pack("<IQ", stream, seq) * (FRAME_BYTES // 12)


def client_frame(payload: bytes) -> bytes:
    """A masked binary frame; the mask is zero so that masking costs the load generator nothing."""
    return struct.pack("!BBH", 0x82, 0x80 | 126, len(payload)) + b"\0\0\0\0" + payload


def consume(redis_url: str, expected: int, ready: Any, results: Any) -> None:
    """Subscribe and check; reports loss, order, bytes and latency."""
    import redis

    connection = redis.Redis.from_url(redis_url)
    pubsub = connection.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe("audio:frames")
    pubsub.get_message(timeout=5)
    ready.set()
    last: dict[str, int] = {}
    wrong, latencies, count = 0, [], 0
    quiet_since = time.monotonic()
    while count < expected and time.monotonic() - quiet_since < 15:
        message = pubsub.get_message(timeout=1.0)
        if message is None:
            continue
        quiet_since = time.monotonic()
        frame = json.loads(message["data"])
        name, seq = frame["interaction_id"], frame["seq"]
        count += 1
        if seq != last.get(name, 0) + 1 or base64.b64decode(frame["audio"]) != payload_of(int(name[1:]), seq):
            wrong += 1
        last[name] = seq
        latencies.append(time.time() * 1000 - frame["timestamp_ms"])
    latencies.sort()
    shares = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
    places = {name: min(len(latencies) - 1, int(len(latencies) * share)) for name, share in shares.items()}
    spread = {name: round(latencies[place], 2) for name, place in places.items()} if latencies else {}
    results.put({"received": count, "wrong": wrong, "daemon_to_consumer_ms": spread})


async def one_stream(
    index: int,
    port: int,
    token: str,
    frames: int,
    tls: ssl.SSLContext | None,
    begin: asyncio.Event,
    opened: list[int],
) -> tuple[int, int]:
    """Open a session, pace its frames, stop; returns ``published`` and ``dropped`` of ``stopped``."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    writer.write(
        f"GET /v1/ingest HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n"
        f"Authorization: Bearer {token}\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    if b" 101 " not in head:
        raise RuntimeError(head)
    start = json.dumps(
        {"event": "start", "interaction_id": f"s{index}", "tenant_id": "bench", "sample_rate": RATE_HZ}
    ).encode()
    writer.write(struct.pack("!BB", 0x81, 0x80 | len(start)) + b"\0\0\0\0" + start)
    opened.append(index)
    await begin.wait()
    offset = (index % FRAMES_PER_S) / FRAMES_PER_S / FRAMES_PER_S
    at = time.monotonic() + offset
    drain = asyncio.create_task(read_all(reader))
    for seq in range(1, frames + 1):
        writer.write(client_frame(payload_of(index, seq)))
        at += 1 / FRAMES_PER_S
        delay = at - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
    stop = b'{"event":"stop"}'
    writer.write(struct.pack("!BB", 0x81, 0x80 | len(stop)) + b"\0\0\0\0" + stop)
    said = await drain
    writer.close()
    stopped = said[said.rindex(b'{"event":"stopped"') :]
    figures, _ = json.JSONDecoder().raw_decode(stopped.decode("utf-8", "replace"))
    return int(figures["published"]), int(figures["dropped"])


async def read_all(reader: asyncio.StreamReader) -> bytes:
    """Everything the daemon says until it closes."""
    said = b""
    while True:
        read = await reader.read(65536)
        if not read:
            return said
        said = (said + read)[-4096:]
        if b"\x88\x02\x03\xe8" in said:
            return said


def generate(options: argparse.Namespace, house: House, results: Any) -> None:
    """The load, in a process of its own."""
    pid = house.pid

    async def run() -> dict[str, Any]:
        tls = ssl.create_default_context(cafile=house.ca) if house.ca else None
        if tls is not None:
            tls.check_hostname = False
        idle_kib = rss_kib(pid)
        begin, opened = asyncio.Event(), []
        frames = options.seconds * FRAMES_PER_S
        tasks = [
            asyncio.create_task(one_stream(i, house.port, house.token, frames, tls, begin, opened))
            for i in range(options.streams)
        ]
        while len(opened) < options.streams:
            await asyncio.sleep(0.05)
            for task in tasks:
                if task.done():
                    task.result()
        await asyncio.sleep(0.5)
        connected_kib, before, began = rss_kib(pid), cpu_s(pid), time.monotonic()
        begin.set()
        await asyncio.sleep(options.seconds * 0.8)
        live_kib = rss_kib(pid)
        ends = await asyncio.gather(*tasks)
        used, took = cpu_s(pid) - before, time.monotonic() - began
        sent = frames * options.streams
        return {
            "sent": sent,
            "published": sum(published for published, _ in ends),
            "declared_lost": sum(dropped for _, dropped in ends),
            "cpu_us_per_frame": round(used / sent * 1e6, 1),
            "cpu_share": round(used / took, 3),
            "kib_per_idle_stream": round((connected_kib - idle_kib) / options.streams, 1),
            "kib_per_live_stream": round((live_kib - idle_kib) / options.streams, 1),
            "rss_mib": round(live_kib / 1024, 1),
        }

    results.put(asyncio.run(run()))


class House:
    """A Redis and a daemon as processes of their own, on free ports, with throw-away keys."""

    def __init__(self, tls: bool, **more: str) -> None:
        import trustme

        from tests.support.daemon import free_port
        from tests.support.servers import redis_program
        from tests.support.tokens import Issuer

        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        self.port, redis_port, self.admin_port = free_port(), free_port(), free_port()
        self.redis_url = f"redis://127.0.0.1:{redis_port}"
        issuer = Issuer()
        self.token = issuer.token(tenant_id="bench")
        self.ca = str(folder / "ca.pem") if tls else None
        settings = {
            "REDIS_URL": self.redis_url,
            "JWT_PUBLIC_KEY": issuer.public_pem,
            "LISTEN": f"{'ssl' if tls else 'tcp'}:{self.port}:interface=127.0.0.1",
            "ADMIN": f"tcp:{self.admin_port}:interface=127.0.0.1",
            **more,
        }
        if tls:
            authority = trustme.CA()
            authority.cert_pem.write_to_path(self.ca)
            pair = authority.issue_cert("localhost", "127.0.0.1")
            pair.private_key_pem.write_to_path(folder / "key.pem")
            for pem in pair.cert_chain_pems:
                pem.write_to_path(folder / "chain.pem", append=True)
            settings |= {"SSL_KEY_PATH": str(folder / "key.pem"), "SSL_CERT_PATH": str(folder / "chain.pem")}
        quiet = {"stdout": subprocess.DEVNULL, "cwd": folder}
        redis = [
            redis_program(),
            "--port",
            str(redis_port),
            "--save",
            "",
            "--client-output-buffer-limit",
            "pubsub 256mb 64mb 60",
        ]
        self._redis = subprocess.Popen(redis, **quiet)
        environment = os.environ | settings | {"PYTHONPATH": str(ROOT)}
        twistd = [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "voiceingest"]
        self._daemon = subprocess.Popen(twistd, env=environment, **quiet)
        self.pid = self._daemon.pid
        self._wait(f"http://127.0.0.1:{self.admin_port}/readyz")

    def _wait(self, url: str) -> None:
        for _ in range(200):
            time.sleep(0.1)
            try:
                with urllib.request.urlopen(url, timeout=1):
                    return
            except OSError:
                continue
        raise RuntimeError("the daemon is not ready")

    def close(self) -> None:
        """End both."""
        for process in (self._daemon, self._redis):
            process.terminate()
            process.wait(20)
        self._folder.cleanup()


def main() -> int:
    """Run once and print the figures; exit code 1 when a frame was lost, repeated or changed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    house = House(options.tls)
    figures: dict[str, Any] = {"streams": options.streams, "seconds": options.seconds, "tls": options.tls}
    try:
        ready, results = multiprocessing.Event(), multiprocessing.Queue()
        expected = options.streams * options.seconds * FRAMES_PER_S
        consumer = multiprocessing.Process(
            target=consume, args=(house.redis_url, expected, ready, results), daemon=True
        )
        consumer.start()
        ready.wait(10)
        load = multiprocessing.Process(target=generate, args=(options, house, results), daemon=True)
        load.start()
        for _ in range(2):
            figures.update(results.get(timeout=options.seconds + 120))
    finally:
        house.close()
    print(
        json.dumps(figures)
        if options.json
        else "\n".join(f"{name:24} {value}" for name, value in figures.items())
    )
    return 0 if figures["received"] == figures["sent"] == figures["published"] and not figures["wrong"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
