"""The scenarios, one class each: what breaks, and what has to hold all the same."""

from __future__ import annotations

from typing import Final

from ..scenario import Scenario
from . import cluster, host, lifecycle, nats, peers, redis

EVERY: Final[tuple[type[Scenario], ...]] = (
    redis.FrozenShort,
    redis.FrozenLong,
    redis.Killed,
    redis.OneBrokenConnection,
    cluster.StreamsKilled,
    cluster.PrimaryKilled,
    cluster.PlannedFailover,
    nats.NodeKilled,
    nats.LeaderFrozen,
    nats.LameDuck,
    redis.DeafSubscriber,
    redis.ShutOut,
    redis.WrongCertificate,
    cluster.OutOfMemory,
    host.DiskFull,
    host.NoDescriptors,
    peers.HalfOpen,
    host.ClockJumps,
    peers.Storm,
    peers.Deaf,
    peers.Tenants,
    lifecycle.Drained,
    lifecycle.Forced,
    lifecycle.RollingRestart,
    lifecycle.KilledDaemon,
    lifecycle.KilledStranger,
    nats.KilledDaemonOnNats,
    lifecycle.BrokenLines,
    host.Stopped,
    host.Starved,
)
