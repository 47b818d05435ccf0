"""What a daemon has in memory: nothing that its settings do not ask for.

A list of names and no stopwatch: what is not imported takes neither time at the start nor memory later.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Final

from .support.case import SynchronousTestCase
from .test_layout import ROOT

# What ``twistd voiceingest`` does before the reactor runs.
_BUILD: Final = """
import io, json, sys
from voiceingest import tap
from twisted.internet import reactor
from voiceingest.config.load import load_settings
from voiceingest.service import make_service
make_service(load_settings({}, json.loads(sys.argv[1]), None), reactor, log_stream=io.StringIO())
print(json.dumps(sorted(sys.modules)))
"""

# What no daemon needs: the programs of people and developers, and Twisted's other protocols.
NEVER: Final = (
    *("voiceingest.cli", "voiceingest.reference"),
    *("twisted.trial", "twisted.conch", "twisted.mail", "twisted.words", "twisted.names"),
    *("unittest", "hypothesis"),
    *("prometheus_client.twisted", "prometheus_client.multiprocess"),
)

# Only for what the settings name: the extras, the buses, the agents, the transcriber.
ASKED_FOR: Final = {
    "numpy": "resampling",
    "soxr": "resampling",
    "nats": "a bus of NATS",
    "txredisapi": "a bus of Redis",
    "hiredis": "a bus of Redis",
    "voiceingest.publishers.memory": "memory://",
    "voiceingest.publishers.nats_jetstream": "a bus of NATS",
    "voiceingest.publishers.redis_streams": "Redis Streams",
    "voiceingest.agents": "calls",
    "voiceingest.calls": "calls",
    "voiceingest.transports.voicebot_ws": "calls",
    "voiceingest.transcribing": "a key for a transcriber",
    "voiceingest.wire.deepgram": "a key for a transcriber",
    "sqlalchemy": "a database",
    "fastapi": "sessions",
    "starlette": "sessions",
    "limits": "sessions",
    "redis": "sessions",
    "opentelemetry": "sessions",
    "grpc": "gRPC",
    "aiortc": "WebRTC",
    "socketio": "Socket.IO",
}


def imported(**settings: str) -> set[str]:
    """The modules of a daemon with these settings, in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-c", _BUILD, json.dumps(settings)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout.splitlines()[-1]))


class ImportTests(SynchronousTestCase):
    def test_a_daemon_that_only_takes_audio(self) -> None:
        there = imported(PUBLISH_URL="redis://localhost")
        self.assertEqual(there & set(NEVER), set())
        # The bus connects once the reactor runs; what it is, is known by now.
        mine = {"voiceingest.publishers.redis_pubsub", "txredisapi", "hiredis"}
        self.assertEqual(there & set(ASKED_FOR) - mine, set())
        self.assertIn("voiceingest.transports.ingest_ws", there)

    def test_what_is_asked_for_is_there(self) -> None:
        """Else the names above would be wrong by now, and nobody would know."""
        there = imported(
            PUBLISH_URL="memory://", EXOTEL_WS_TOKEN="t" * 32, DEEPGRAM_API_KEY="k", VOICEBOT_AGENT="echo"
        )
        self.assertEqual(there & set(NEVER), set())
        wanted = {name for name in ASKED_FOR if name.startswith("voiceingest.")}
        others = {"nats_jetstream", "redis_streams"}
        self.assertEqual(wanted - there, {f"voiceingest.publishers.{name}" for name in others})
