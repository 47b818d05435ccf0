"""The two ways to ask for sessions, told alike: what one does over HTTP the other does over gRPC."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import aiohttp
import grpc
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from tests.support.daemon import HOST, Daemon
from tests.support.grpc_peer import Peer
from voiceingest.transports.grpc_api.generated import session_pb2 as pb

# The fields of a session that callers say, by their names in our tests, over HTTP, over gRPC.
_CONFIG: Final = {
    "audio": ("audioConfig", "audio_config"),
    "voice": ("voiceConfig", "voice_config"),
    "metadata": ("metadata", "metadata"),
    "context": ("contextData", "context"),
}


@dataclass(frozen=True)
class Shown:
    """A session as an API shows it."""

    session_id: str
    status: str
    transport: str
    reason: str
    frames: int
    config: dict[str, Any]
    has_begun: bool
    has_ended: bool


@dataclass(frozen=True)
class Outcome:
    """What came of a question: ``ok`` or the code of the refusal."""

    code: str
    session: Shown | None = None
    sessions: list[Shown] = field(default_factory=list)
    next_page: str = ""

    @property
    def shown(self) -> Shown:
        """The session; there has to be one."""
        assert self.code == "ok", self.code
        assert self.session is not None
        return self.session


class IApi(Protocol):
    """One device's way to its sessions."""

    async def create(self, key: str | None = None, **config: Any) -> Outcome:
        """Make a session."""

    async def get(self, session_id: str) -> Outcome:
        """One session."""

    async def edit(self, session_id: str, **config: Any) -> Outcome:
        """Change what is kept of it."""

    async def end(self, session_id: str) -> Outcome:
        """End it."""

    async def page(self, limit: int = 50, after: str = "", status: str = "") -> Outcome:
        """A page of the list."""


class Rest:
    """Over HTTP."""

    def __init__(self, client: aiohttp.ClientSession, daemon: Daemon, token: str | None) -> None:
        self._client = client
        self._base = f"{daemon.url('')}/api/session"
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def create(self, key: str | None = None, **config: Any) -> Outcome:
        """POST, then what GET shows: the answer to POST is short."""
        headers = {"Idempotency-Key": key} if key is not None else {}
        outcome, answer = await self._ask("POST", "/create", _rest_body(config), headers)
        return outcome if outcome.code != "ok" else await self.get(answer["sessionId"])

    async def get(self, session_id: str) -> Outcome:
        """GET."""
        return (await self._ask("GET", f"/{session_id}"))[0]

    async def edit(self, session_id: str, **config: Any) -> Outcome:
        """PATCH."""
        return (await self._ask("PATCH", f"/{session_id}", _rest_body(config)))[0]

    async def end(self, session_id: str) -> Outcome:
        """DELETE, then what GET shows."""
        outcome, answer = await self._ask("DELETE", f"/{session_id}")
        if outcome.code != "ok":
            return outcome
        assert answer["success"] is True, answer
        return await self.get(session_id)

    async def page(self, limit: int = 50, after: str = "", status: str = "") -> Outcome:
        """GET of the list."""
        wish = {"limit": str(limit), "cursor": after, "status": status}
        query = {name: value for name, value in wish.items() if value}
        _, answer = await self._ask("GET", "", query=query)
        if "code" in answer:
            return Outcome(answer["code"])
        return Outcome(
            "ok", None, [_from_rest(one) for one in answer["sessions"]], answer["nextCursor"] or ""
        )

    async def _ask(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        query: dict[str, str] | None = None,
    ) -> tuple[Outcome, dict[str, Any]]:
        given = {**self._headers, **(headers or {})}
        asked = self._client.request(method, self._base + path, json=body, headers=given, params=query)
        async with asked as response:
            answer: dict[str, Any] = await response.json()
        if response.status >= 400:
            assert set(answer) >= {"code", "message", "request_id"}, answer
            return Outcome(answer["code"]), answer
        session = _from_rest(answer) if "transport" in answer else None
        return Outcome("ok", session), answer


class Grpc:
    """Over gRPC."""

    def __init__(self, channel: grpc.aio.Channel, token: str | None) -> None:
        self._peer = Peer(channel, token)

    async def create(self, key: str | None = None, **config: Any) -> Outcome:
        """StartSession."""
        metadata = [("idempotency-key", key)] if key is not None else []
        return await self._ask("StartSession", pb.StartSessionRequest(**_structs(config)), *metadata)

    async def get(self, session_id: str) -> Outcome:
        """GetSessionStatus."""
        return await self._ask("GetSessionStatus", pb.GetSessionStatusRequest(session_id=session_id))

    async def edit(self, session_id: str, **config: Any) -> Outcome:
        """UpdateSessionConfig."""
        request = pb.UpdateSessionConfigRequest(session_id=session_id, **_structs(config))
        return await self._ask("UpdateSessionConfig", request)

    async def end(self, session_id: str) -> Outcome:
        """StopSession."""
        return await self._ask("StopSession", pb.StopSessionRequest(session_id=session_id))

    async def page(self, limit: int = 50, after: str = "", status: str = "") -> Outcome:
        """ListSessions."""
        number = pb.SessionStatus.Value(f"SESSION_STATUS_{status.upper() or 'UNSPECIFIED'}")
        request = pb.ListSessionsRequest(page_size=limit, page_token=after, status=number)
        return await self._ask("ListSessions", request)

    async def _ask(self, method: str, request: Any, *metadata: tuple[str, str]) -> Outcome:
        try:
            answer = await self._peer.call(method, request, *metadata)
        except grpc.aio.AioRpcError as error:
            trailing = {str(key): str(value) for key, value in error.trailing_metadata() or ()}
            return Outcome(trailing["voiceingest-code"])
        if method == "ListSessions":
            return Outcome("ok", None, [_from_grpc(one) for one in answer.sessions], answer.next_page_token)
        return Outcome("ok", _from_grpc(answer.session))


def _rest_body(config: dict[str, Any]) -> dict[str, Any]:
    return {_CONFIG[name][0]: value for name, value in config.items()}


def _structs(config: dict[str, Any]) -> dict[str, Struct]:
    made = {}
    for name, value in config.items():
        made[_CONFIG[name][1]] = struct = Struct()
        struct.update(value)
    return made


def _from_rest(shown: dict[str, Any]) -> Shown:
    return Shown(
        shown["sessionId"], shown["status"], shown["transport"], shown["reason"], shown["frames"],
        {name: shown[rest] for name, (rest, _) in _CONFIG.items() if rest in shown},
        shown["startedAt"] is not None, shown["endedAt"] is not None,
    )  # fmt: skip


def _from_grpc(shown: pb.Session) -> Shown:
    status = pb.SessionStatus.Name(shown.status).removeprefix("SESSION_STATUS_").lower()
    config = {name: _whole(MessageToDict(getattr(shown, message))) for name, (_, message) in _CONFIG.items()}
    return Shown(
        shown.session_id, status, shown.transport, shown.reason, shown.frames, config,
        shown.HasField("started_at"), shown.HasField("ended_at"),
    )  # fmt: skip


def _whole(value: Any) -> Any:
    """JSON with whole numbers whole again: a Struct knows doubles only."""
    if isinstance(value, dict):
        return {name: _whole(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Entrance:
    """A daemon's doors: makes devices, and their ways in."""

    def __init__(self, daemon: Daemon, client: aiohttp.ClientSession, channel: grpc.aio.Channel) -> None:
        self.daemon = daemon
        self.client = client
        self.channel = channel
        self._count = 0

    async def device(self) -> dict[str, Any]:
        """A new device's tokens."""
        self._count += 1
        status, answer = await self.post("register", {"deviceIdentifier": f"device-{self._count}"})
        assert status == 201, answer
        return answer

    async def post(self, what: str, body: Any, token: str | None = None) -> tuple[int, dict[str, Any]]:
        """Ask ``/api/auth/``: status and answer."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        asked = self.client.post(self.daemon.url(f"/api/auth/{what}"), json=body, headers=headers)
        async with asked as response:
            return response.status, await response.json()

    def api(self, kind: str, token: str | None) -> IApi:
        """One device's way in."""
        return Rest(self.client, self.daemon, token) if kind == "rest" else Grpc(self.channel, token)


def grpc_channel(port: int) -> grpc.aio.Channel:
    """A connection to the gRPC of a daemon."""
    return grpc.aio.insecure_channel(f"{HOST}:{port}")
