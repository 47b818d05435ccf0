"""The gRPC server as a part of the service tree: bound, or the start fails; drained at the end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from ...aio import as_deferred
from ...errors import PortUnavailable
from ...limits import BODY_MAX_BYTES, HEAD_MAX_BYTES
from ...metrics import Metrics
from .credentials import ReloadingCredentials
from .decoding import Decoding
from .generated import session_pb2
from .generated.session_pb2_grpc import SessionServiceServicer, add_SessionServiceServicer_to_server
from .streams import STREAMS_MAX_COUNT, BoundedStreams

SERVICE: Final = session_pb2.DESCRIPTOR.services_by_name["SessionService"].full_name

# Calls at once; more are refused with RESOURCE_EXHAUSTED (the database has a handful of connections).
CALLS_MAX_COUNT: Final = 256

# How often what health says is looked up, in seconds.
HEALTH_INTERVAL_S: Final = 1.0

# What calls that are under way have to end in, in seconds.
GRACE_S: Final = 5.0

_OPTIONS: Final = (
    # Two processes on one port would share its calls, and a busy port would not be noticed.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", BODY_MAX_BYTES * 2),
    ("grpc.max_metadata_size", HEAD_MAX_BYTES),
    ("grpc.max_concurrent_streams", 100),
    # A peer that is gone without a word is noticed; one that pings all the time is sent away.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
)


class GrpcServer:
    """See the head of this file. ``why_not_ready`` is asked each second: ``None`` while all is well."""

    name = "grpc"
    _log = Logger()

    def __init__(
        self,
        servicer: SessionServiceServicer,
        address: str,
        credentials: ReloadingCredentials | None,
        why_not_ready: Callable[[], str | None],
        metrics: Metrics,
    ) -> None:
        """``address`` is ``host:port``; an IPv6 host stands in brackets."""
        self._servicer = servicer
        self._address = address
        self._credentials = credentials
        self._why_not_ready = why_not_ready
        self._interceptors = (Decoding(metrics),)
        self._server: grpc.aio.Server | None = None
        self._health: Any = None
        self._watch: asyncio.Task[None] | None = None
        self.port = 0

    def start(self) -> Deferred[None]:
        """Bind and serve. Fails with ``PortUnavailable``."""
        return as_deferred(self._start())

    def stop(self) -> Deferred[None]:
        """Take no new calls; those under way have ``GRACE_S``."""
        return as_deferred(self._stop())

    async def _start(self) -> None:
        server = grpc.aio.server(
            interceptors=(*self._interceptors, BoundedStreams(STREAMS_MAX_COUNT)),
            options=_OPTIONS,
            maximum_concurrent_rpcs=CALLS_MAX_COUNT,
        )
        self._health = health.aio.HealthServicer()
        add_SessionServiceServicer_to_server(self._servicer, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, server)
        try:
            if self._credentials is None:
                self.port = server.add_insecure_port(self._address)
            else:
                self.port = server.add_secure_port(self._address, self._credentials.credentials())
        except RuntimeError:
            # Its text is several lines of gRPC's own.
            await server.stop(None)
            raise PortUnavailable(f"grpc: {self._address}: cannot listen") from None
        await self._tell_health()
        await server.start()
        self._server = server
        self._watch = asyncio.get_running_loop().create_task(self._watch_health())
        self._log.info(
            "Listening on {address}", event="listening", site="grpc", address=self._address,
            tls=self._credentials is not None,
        )

    async def _stop(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.wait([watch])
        server, self._server = self._server, None
        if server is not None:
            await self._health.enter_graceful_shutdown()
            await server.stop(GRACE_S)

    async def _watch_health(self) -> None:
        while True:
            await asyncio.sleep(HEALTH_INTERVAL_S)
            await self._tell_health()

    async def _tell_health(self) -> None:
        words = health_pb2.HealthCheckResponse
        status = words.SERVING if self._why_not_ready() is None else words.NOT_SERVING
        for name in ("", SERVICE):
            await self._health.set(name, status)
