"""What there is to choose from, as tables of ``name -> "module:factory"``.

A new bus is one file and one line here; nothing is imported before it is chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Final

from .errors import UnknownAgent

# By the scheme of the bus URL. ``factory(settings, reactor, metrics) -> IBus``.
BUSES: Final[dict[str, str]] = {
    "memory": "voiceingest.publishers.memory:Memory",
    "redis": "voiceingest.publishers.redis_pubsub:RedisPubSub",
    "rediss": "voiceingest.publishers.redis_pubsub:RedisPubSub",
    "unix": "voiceingest.publishers.redis_pubsub:RedisPubSub",
    "redis+sentinel": "voiceingest.publishers.redis_pubsub:RedisPubSub",
    "rediss+sentinel": "voiceingest.publishers.redis_pubsub:RedisPubSub",
    "redis-streams": "voiceingest.publishers.redis_streams:RedisStreams",
    "rediss-streams": "voiceingest.publishers.redis_streams:RedisStreams",
    "redis-streams+sentinel": "voiceingest.publishers.redis_streams:RedisStreams",
    "rediss-streams+sentinel": "voiceingest.publishers.redis_streams:RedisStreams",
    "nats": "voiceingest.publishers.nats_jetstream:NatsJetStream",
    "nats+tls": "voiceingest.publishers.nats_jetstream:NatsJetStream",
}

# What a caller may come in by, on the public site. ``factory(house) -> transport``.
TRANSPORTS: Final[dict[str, str]] = {
    "ingest": "voiceingest.transports.ingest_ws:IngestTransport",
}

# Who may answer a call. ``factory(context) -> IAgent``; its module may have ``problems(settings)``.
AGENTS: Final[dict[str, str]] = {
    "echo": "voiceingest.agents.echo:Echo",
    "silence": "voiceingest.agents.silence:Silence",
    "deepgram": "voiceingest.agents.deepgram:Deepgram",
    "pipeline": "voiceingest.agents.pipeline:Pipeline",
}

# Where other packages name agents of their own; the names above stay ours.
AGENT_GROUP: Final = "voiceingest.agents"


def agent_entry(name: str) -> str:
    """Where an agent is, in this table or in an entry point. Raises: ``UnknownAgent``."""
    if name in AGENTS:
        return AGENTS[name]
    others = {point.name: point.value for point in entry_points(group=AGENT_GROUP)}
    if name not in others:
        known = ", ".join({**AGENTS, **others})
        raise UnknownAgent(f"voicebot_agent: there is no agent {name}; there are {known}")
    return others[name]


def load(entry: str) -> Callable[..., Any]:
    """Import what an entry of a table names."""
    module, _, name = entry.partition(":")
    factory: Callable[..., Any] = getattr(import_module(module), name)
    return factory
