"""The five calls about sessions, each a few lines over ``ISessions``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from twisted.logger import Logger

from ...device_interfaces import Caller, IDevices
from ...errors import BadField, InternalError, Unauthenticated, VoiceIngestError
from ...limits import SESSION_PAGE_MAX_COUNT, TOKEN_MAX_BYTES
from ...metrics import Metrics
from ...session_interfaces import ISessions, SessionQuery
from .generated import session_pb2 as pb
from .generated.session_pb2_grpc import SessionServiceServicer
from .messages import edit_of, state_of, told
from .refusals import refuse

_SCHEME: Final = "bearer "
_PAGE_COUNT: Final = 50

# The label ``endpoint`` of errors that were answered over gRPC.
ENDPOINT: Final = "grpc"

T = TypeVar("T")


class ILimits(Protocol):
    """Who may ask how often."""

    async def check(self, route: str, address: str, user_id: str | None) -> None:
        """Count one request. Raises: ``TooManyRequests``."""


@dataclass(frozen=True, slots=True)
class Pages:
    """How the place on a list is written in a page token: the same as over HTTP."""

    read: Callable[[str], tuple[float, str]]
    write: Callable[[tuple[float, str]], str]


class SessionServicer(SessionServiceServicer):
    """See the head of this file. ``wall_clock`` returns seconds since the epoch."""

    _log = Logger()

    def __init__(
        self,
        devices: IDevices,
        sessions: ISessions,
        limits: ILimits,
        pages: Pages,
        wall_clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._devices = devices
        self._sessions = sessions
        self._limits = limits
        self._pages = pages
        self._wall_clock = wall_clock
        self._metrics = metrics

    async def StartSession(self, request: pb.StartSessionRequest, context: Any) -> pb.StartSessionResponse:
        """Make a session."""

        async def start(caller: Caller) -> pb.StartSessionResponse:
            key = _metadata(context, "idempotency-key")
            session, _ = await self._sessions.create(caller, "grpc", edit_of(request), key)
            return pb.StartSessionResponse(session=told(session, self._wall_clock()))

        return await self._answer("StartSession", context, start)

    async def StopSession(self, request: pb.StopSessionRequest, context: Any) -> pb.StopSessionResponse:
        """End a session and its stream."""

        async def stop(caller: Caller) -> pb.StopSessionResponse:
            session = await self._sessions.end(caller.user_id, request.session_id)
            return pb.StopSessionResponse(session=told(session, self._wall_clock()))

        return await self._answer("StopSession", context, stop)

    async def GetSessionStatus(
        self, request: pb.GetSessionStatusRequest, context: Any
    ) -> pb.GetSessionStatusResponse:
        """Tell a session."""

        async def get(caller: Caller) -> pb.GetSessionStatusResponse:
            session = await self._sessions.get(caller.user_id, request.session_id)
            return pb.GetSessionStatusResponse(session=told(session, self._wall_clock()))

        return await self._answer("GetSessionStatus", context, get)

    async def UpdateSessionConfig(
        self, request: pb.UpdateSessionConfigRequest, context: Any
    ) -> pb.UpdateSessionConfigResponse:
        """Change what is kept of a session."""

        async def edit(caller: Caller) -> pb.UpdateSessionConfigResponse:
            session = await self._sessions.edit(caller.user_id, request.session_id, edit_of(request))
            return pb.UpdateSessionConfigResponse(session=told(session, self._wall_clock()))

        return await self._answer("UpdateSessionConfig", context, edit)

    async def ListSessions(self, request: pb.ListSessionsRequest, context: Any) -> pb.ListSessionsResponse:
        """Tell a page of sessions."""

        async def page(caller: Caller) -> pb.ListSessionsResponse:
            count = request.page_size or _PAGE_COUNT
            if not 1 <= count <= SESSION_PAGE_MAX_COUNT:
                raise BadField(f"page_size is 1 to {SESSION_PAGE_MAX_COUNT}")
            before = self._pages.read(request.page_token) if request.page_token else None
            # One more than asked for tells whether there is a page after this one.
            query = SessionQuery(caller.user_id, state_of(request.status), count + 1, before)
            found = list(await self._sessions.page(query))
            shown, now = found[:count], self._wall_clock()
            last = shown[-1] if len(found) > count else None
            return pb.ListSessionsResponse(
                sessions=[told(session, now) for session in shown],
                next_page_token=self._pages.write((last.created_at, last.session_id)) if last else "",
            )

        return await self._answer("ListSessions", context, page)

    async def _answer(self, method: str, context: Any, ask: Callable[[Caller], Awaitable[T]]) -> T:
        """Find out who calls, ask, and say what is refused."""
        try:
            caller = await self._caller(method, context)
            answer = await ask(caller)
        except asyncio.CancelledError:
            # The caller went away, or its deadline has passed: nobody waits for an answer.
            self._metrics.grpc_calls[method, "cancelled"] += 1
            raise
        except VoiceIngestError as error:
            self._count(method, error)
            await refuse(context, error)
        except Exception:
            self._log.failure("a gRPC call failed", event="grpc_failed", method=method)
            bug = InternalError()
            self._count(method, bug)
            await refuse(context, bug)
        self._metrics.grpc_calls[method, "ok"] += 1
        return answer

    async def _caller(self, method: str, context: Any) -> Caller:
        address = peer_address(context.peer())
        await self._limits.check(method, address, None)
        caller = await self._devices.authenticate(_bearer(context))
        await self._limits.check(method, address, caller.user_id)
        return caller

    def _count(self, method: str, error: VoiceIngestError) -> None:
        self._metrics.grpc_calls[method, error.code] += 1
        self._metrics.errors[error.code, ENDPOINT] += 1


def peer_address(peer: str) -> str:
    """The address in a peer's name: ``ipv4:192.0.2.1:50000``, ``ipv6:%5B::1%5D:50000``, ``unix:``."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return kind or "unknown"
    host = rest.rpartition(":")[0]
    return host.replace("%5B", "").replace("%5D", "").strip("[]")


def _bearer(context: Any) -> str:
    """The access token of a call. Raises: ``Unauthenticated``."""
    given = _metadata(context, "authorization")
    if given is None:
        raise Unauthenticated(reason="missing")
    if len(given) > TOKEN_MAX_BYTES + len(_SCHEME) or given[: len(_SCHEME)].lower() != _SCHEME:
        raise Unauthenticated(reason="bad_scheme")
    return given[len(_SCHEME) :].strip()


def _metadata(context: Any, name: str) -> str | None:
    """One value of the metadata. Raises: ``BadField`` where there are several."""
    found = [value for key, value in context.invocation_metadata() or () if key == name]
    if len(found) > 1:
        raise BadField(f"{name} is given more than once")
    return str(found[0]) if found else None
