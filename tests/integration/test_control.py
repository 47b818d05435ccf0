"""Devices and sessions at a whole daemon: one table of behaviours, over HTTP and gRPC, on both databases."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Final

import aiohttp
import redis as redis_client
import websockets

from tests.support.daemon import free_port
from tests.support.postgres import PostgresServer, shared_server
from tests.support.servers import RedisServer
from voiceingest.aio import as_deferred, as_future
from voiceingest.metrics import CONTROL_FAMILIES

from .case import IngestCase, asynchronous
from .control import Entrance, IApi, grpc_channel

SECRET: Final = "a-secret-of-the-devices-of-this-test"
OPEN_MAX: Final = 6

# What a behaviour is given: the way of one device, and that of another.
Behaviour = Callable[["ControlCase", IApi, IApi], Awaitable[None]]
TABLE: Final[dict[str, Behaviour]] = {}


def behaviour(run: Behaviour) -> Behaviour:
    """One row of the table."""
    TABLE[run.__name__] = run
    return run


@behaviour
async def a_new_session_is_pending_and_shown(case: ControlCase, api: IApi, other: IApi) -> None:
    config: dict[str, Any] = {
        "audio": {"sampleRate": 24000, "gain": 0.5},
        "voice": {"name": "thalia"},
        "metadata": {"tags": ["a", None, {}]},
    }
    made = (await api.create(**config)).shown
    case.assertTrue(made.session_id.startswith("ses_"))
    case.assertEqual((made.status, made.reason, made.frames), ("pending", "", 0))
    case.assertEqual((made.has_begun, made.has_ended), (False, False))
    case.assertEqual(made.config, {**config, "context": {}})
    case.assertEqual((await api.get(made.session_id)).shown, made)
    plain = (await api.create()).shown
    case.assertNotEqual(plain.session_id, made.session_id)


@behaviour
async def another_devices_session_is_not_there(case: ControlCase, api: IApi, other: IApi) -> None:
    name = (await api.create()).shown.session_id
    for asked in (other.get(name), other.edit(name, metadata={"x": 1}), other.end(name)):
        case.assertEqual((await asked).code, "session_not_found")
    case.assertEqual((await other.page()).sessions, [])
    case.assertEqual((await api.get(name)).shown.config["metadata"], {})


@behaviour
async def what_never_was_is_not_there(case: ControlCase, api: IApi, other: IApi) -> None:
    for name in ("ses_AAAAAAAAAAAAAAAAAAAAAA", "x", "ses_' or 1=1 --", "s" * 300, "ses_\u00e9"):
        for asked in (api.get(name), api.end(name)):
            # Over HTTP there is no path for what can be no id.
            case.assertIn((await asked).code, ("session_not_found", "not_found"), name)


@behaviour
async def an_edit_is_merged(case: ControlCase, api: IApi, other: IApi) -> None:
    name = (await api.create(metadata={"a": 1, "b": {"c": 2, "d": 3}})).shown.session_id
    edited = (await api.edit(name, metadata={"a": None, "b": {"c": 9}}, context={"topic": "trains"})).shown
    case.assertEqual(edited.config["metadata"], {"b": {"c": 9, "d": 3}})
    case.assertEqual(edited.config["context"], {"topic": "trains"})
    case.assertEqual(edited.status, "pending")
    case.assertEqual((await api.get(name)).shown.config, edited.config)


@behaviour
async def an_end_is_the_end(case: ControlCase, api: IApi, other: IApi) -> None:
    name = (await api.create()).shown.session_id
    ended = (await api.end(name)).shown
    case.assertEqual((ended.status, ended.has_ended), ("completed", True))
    case.assertEqual((await api.end(name)).code, "illegal_move")
    case.assertEqual((await api.edit(name, metadata={"x": 1})).code, "illegal_move")
    case.assertEqual((await api.get(name)).shown, ended)


@behaviour
async def one_key_makes_one_session(case: ControlCase, api: IApi, other: IApi) -> None:
    first = (await api.create("key-1", metadata={"x": 1})).shown
    again = (await api.create("key-1", metadata={"x": 1})).shown
    case.assertEqual(first.session_id, again.session_id)
    case.assertEqual((await api.create("key-1", metadata={"x": 2})).code, "idempotency_mismatch")
    foreign = (await other.create("key-1", metadata={"x": 2})).shown
    case.assertNotEqual(foreign.session_id, first.session_id)
    at_once = await asyncio.gather(*(api.create("key-2") for _ in range(4)))
    case.assertEqual(len({outcome.shown.session_id for outcome in at_once}), 1)
    case.assertEqual((await api.create("k" * 129)).code, "bad_field")


@behaviour
async def what_is_too_much_is_refused(case: ControlCase, api: IApi, other: IApi) -> None:
    case.assertEqual((await api.create(audio={"x": "y" * 5000})).code, "context_too_big")
    name = (await api.create()).shown.session_id
    case.assertEqual((await api.edit(name, context={"x": "y" * 50_000})).code, "context_too_big")
    case.assertEqual((await api.get(name)).shown.config["context"], {})
    turns = [{"role": "user", "content": str(number)} for number in range(250)]
    kept = (await api.edit(name, context={"history": turns})).shown.config["context"]["history"]
    case.assertEqual(kept, turns[-200:])


@behaviour
async def what_no_database_takes_is_refused(case: ControlCase, api: IApi, other: IApi) -> None:
    deep: Any = {}
    for _ in range(16):
        deep = {"a": deep}
    odd: tuple[Any, ...] = ("\0", {"\0": 1}, ["a\0b"], float("nan"), float("inf"), -float("inf"), deep)
    name = (await api.create()).shown.session_id
    for wrong in odd:
        for part in ("audio", "voice", "metadata", "context"):
            # What is not finite is no JSON, which a body has to be before it has fields.
            code = (await api.edit(name, **{part: {"x": wrong}})).code
            case.assertIn(code, ("bad_field", "bad_json"), (part, wrong))
        case.assertIn((await api.create(metadata={"x": wrong})).code, ("bad_field", "bad_json"), wrong)
    case.assertEqual([shown.session_id for shown in (await api.page()).sessions], [name])
    case.assertEqual((await api.get(name)).shown.config, (await api.create()).shown.config)
    for key in ("a b", ""):
        case.assertEqual((await api.create(key)).code, "bad_field", key)
    for after in ("\0", "\u00e9", "a" * 500):
        case.assertEqual((await api.page(after=after)).code, "bad_field", after)


@behaviour
async def numbers_are_kept(case: ControlCase, api: IApi, other: IApi) -> None:
    numbers = [0, -1, 2**53 - 1, 1 - 2**53, 0.1, -1e300, 5e-324, 1.7976931348623157e308]
    made = (await api.create(metadata={"x": numbers})).shown
    case.assertEqual(made.config["metadata"], {"x": numbers})
    case.assertEqual((await api.get(made.session_id)).shown, made)


@behaviour
async def a_list_has_pages(case: ControlCase, api: IApi, other: IApi) -> None:
    names = [(await api.create()).shown.session_id for _ in range(5)]
    await api.end(names[2])
    found: list[str] = []
    after = ""
    for _ in range(3):
        page = await api.page(2, after)
        found += [shown.session_id for shown in page.sessions]
        after = page.next_page
    case.assertEqual((found, after), (names[::-1], ""))
    ended = await api.page(status="completed")
    case.assertEqual([shown.session_id for shown in ended.sessions], [names[2]])
    case.assertEqual((await api.page(5)).next_page, "")
    case.assertEqual((await api.page(after="not-a-page")).code, "bad_field")
    case.assertEqual((await api.page(101)).code, "bad_field")


@behaviour
async def a_user_has_so_many_open(case: ControlCase, api: IApi, other: IApi) -> None:
    names = [(await api.create()).shown.session_id for _ in range(OPEN_MAX)]
    case.assertEqual((await api.create()).code, "too_many_sessions")
    (await other.create()).shown  # noqa: B018  (raises where there is none)
    await api.end(names[0])
    case.assertEqual((await api.create()).code, "ok")


class ControlCase(IngestCase):
    """A daemon with everything on, on one database."""

    timeout = 300
    entrance: Entrance

    async def enter(self, database_url: str, **settings: str) -> Entrance:
        """Start it, and stand before its doors."""
        port = free_port()
        base = {
            "JWT_SECRET": SECRET, "DATABASE_URL": database_url, "GRPC_PORT": str(port), "PUBLISH_URL": "memory://",
            "API_RATE_FACTOR": "0", "SESSIONS_MAX_PER_USER": str(OPEN_MAX), "GRPC": "on",
        }  # fmt: skip
        daemon = await self.start_daemon(**{**base, **settings})
        client, channel = aiohttp.ClientSession(), grpc_channel(port)
        self.addCleanup(lambda: as_deferred(_close(client, channel)))
        self.entrance = Entrance(daemon, client, channel)
        return self.entrance

    def database_url(self) -> str:
        """A database of this test's own."""
        raise NotImplementedError

    async def socket(self, token: str, interaction_id: str, tenant_id: str) -> Any:
        """A live stream of a device."""
        headers = {"Authorization": f"Bearer {token}"}
        stream = await websockets.connect(
            self.entrance.daemon.ws_url("/v1/ingest"), additional_headers=headers, compression=None
        )
        self.addCleanup(stream.transport.abort)
        start = {"event": "start", "interaction_id": interaction_id, "tenant_id": tenant_id,
                 "sample_rate": 24000, "encoding": "pcm16"}  # fmt: skip
        await stream.send(json.dumps(start))
        self.assertEqual(json.loads(await stream.recv())["event"], "started")
        return stream

    async def until(self, api: IApi, session_id: str, status: str) -> Any:
        """The session, once it stands there."""
        while True:
            shown = (await api.get(session_id)).shown
            if shown.status == status:
                return shown
            await asyncio.sleep(0.05)


async def said(stream: Any) -> list[dict[str, Any]]:
    """What a stream is told until it is closed."""
    heard: list[dict[str, Any]] = []
    with contextlib.suppress(websockets.ConnectionClosed):
        while True:
            heard.append(json.loads(await stream.recv()))
    return heard


async def _close(client: aiohttp.ClientSession, channel: Any) -> None:
    await client.close()
    await channel.close()


class BehavioursMixin:
    """Every row of the table, over each way in."""

    kinds: ClassVar = ("rest", "grpc")

    @asynchronous
    async def test_the_table(self: Any) -> None:
        entrance = await self.enter(self.database_url())
        for kind in self.kinds:
            for name, run in TABLE.items():
                tokens = [(await entrance.device())["accessToken"] for _ in range(2)]
                try:
                    await run(self, *(entrance.api(kind, token) for token in tokens))
                except AssertionError as error:
                    raise AssertionError(f"{name} over {kind}: {error}") from error

    @asynchronous
    async def test_what_one_makes_the_other_shows(self: Any) -> None:
        entrance = await self.enter(self.database_url())
        token = (await entrance.device())["accessToken"]
        rest, grpc = (entrance.api(kind, token) for kind in self.kinds)
        for here, there, transport in ((rest, grpc, "rest"), (grpc, rest, "grpc")):
            made = (await here.create(audio={"sampleRate": 8000})).shown
            self.assertEqual(made.transport, transport)
            self.assertEqual((await there.get(made.session_id)).shown, made)
            await there.end(made.session_id)
            self.assertEqual((await here.get(made.session_id)).shown.status, "completed")

    @asynchronous
    async def test_who_is_let_in(self: Any) -> None:
        entrance = await self.enter(self.database_url())
        device = await entrance.device()
        for kind in self.kinds:
            for token in (
                None,
                "x",
                device["refreshToken"],
                device["deviceToken"],
                device["accessToken"] + "x",
            ):
                for asked in (lambda api: api.create(), lambda api: api.get("ses_x"), lambda api: api.page()):
                    self.assertEqual((await asked(entrance.api(kind, token))).code, "unauthorized")
        status, answer = await entrance.post("refresh", {"refreshToken": device["refreshToken"]})
        self.assertEqual(status, 200, answer)
        fresh = answer["accessToken"]
        self.assertEqual((await entrance.api("grpc", fresh).page()).code, "ok")
        status, answer = await entrance.post("refresh", {"refreshToken": device["refreshToken"]})
        self.assertEqual((status, answer["code"]), (401, "refresh_reused"))
        for kind in self.kinds:
            self.assertEqual((await entrance.api(kind, fresh).page()).code, "token_revoked")

    @asynchronous
    async def test_a_stream_is_a_session(self: Any) -> None:
        entrance = await self.enter(self.database_url())
        device = await entrance.device()
        api = entrance.api("rest", device["accessToken"])
        asked_for = (await api.create()).shown.session_id
        for interaction in (asked_for, "call-of-its-own"):
            stream = await self.socket(device["accessToken"], interaction, device["userId"])
            for _ in range(3):
                await stream.send(bytes(960))
            while not (active := (await api.page(status="active")).sessions):
                await asyncio.sleep(0.05)
            self.assertEqual(active[0].session_id == asked_for, interaction == asked_for)
            self.assertEqual(active[0].transport, "ingest")
            await stream.send(json.dumps({"event": "stop"}))
            await said(stream)
            ended = await self.until(api, active[0].session_id, "completed")
            self.assertEqual((ended.frames, ended.reason, ended.has_begun), (3, "stopped", True))

    @asynchronous
    async def test_who_ends_a_session_ends_its_stream(self: Any) -> None:
        entrance = await self.enter(self.database_url())
        device = await entrance.device()
        for kind in self.kinds:
            api = entrance.api(kind, device["accessToken"])
            name = (await api.create()).shown.session_id
            stream = await self.socket(device["accessToken"], name, device["userId"])
            await stream.send(bytes(960))
            await self.until(api, name, "active")
            self.assertEqual((await api.end(name)).shown.status, "completed")
            last = (await said(stream))[-1]
            self.assertEqual((last["event"], last["received"]), ("stopped", 1))
            self.assertEqual(stream.close_code, 1000)

    @asynchronous
    async def test_a_revoked_device_is_cut_off(self: Any) -> None:
        entrance = await self.enter(self.database_url())
        device = await entrance.device()
        token = device["accessToken"]
        stream = await self.socket(token, "call-1", device["userId"])
        status, answer = await entrance.post("revoke", {}, token)
        self.assertEqual((status, answer["success"]), (200, True))
        last = (await said(stream))[-1]
        self.assertEqual((last["code"], stream.close_code), ("token_revoked", 4401))
        for kind in self.kinds:
            self.assertEqual((await entrance.api(kind, token).page()).code, "token_revoked")
        known = {"deviceIdentifier": "device-1"}
        status, answer = await entrance.post("register", known)
        self.assertEqual((status, answer["code"]), (401, "device_unproven"))
        status, answer = await entrance.post("register", {**known, "deviceToken": device["deviceToken"]})
        self.assertEqual((status, answer["userId"]), (201, device["userId"]))


class SqliteTests(BehavioursMixin, ControlCase):
    """The embedded database."""

    def database_url(self) -> str:
        """A file."""
        folder = self.mktemp_path()
        folder.mkdir()
        return f"sqlite:///{folder}/sessions.db"


class PostgresTests(BehavioursMixin, ControlCase):
    """A real PostgreSQL."""

    def database_url(self) -> str:
        """A database."""
        return shared_server().database(self)


class OutageTests(ControlCase):
    """The database goes away and comes back."""

    counted = ""

    async def sessions_of_all(self) -> tuple[int, list[dict[str, Any]]]:
        """What operators see, but for what was there only to be counted."""
        daemon = self.entrance.daemon
        status, body = await as_future(daemon.get(daemon.admin_url("/api/admin/sessions")))
        rows = json.loads(body).get("sessions", [])
        return status, [row for row in rows if row["userId"] != self.counted]

    async def readiness(self) -> dict[str, Any]:
        """What ``/readyz`` says."""
        daemon = self.entrance.daemon
        answer: dict[str, Any] = json.loads((await as_future(daemon.get(daemon.admin_url("/readyz"))))[1])
        return answer

    @asynchronous
    async def test_audio_goes_on(self) -> None:
        server = PostgresServer()
        self.addCleanup(server.stop)
        redis = RedisServer(self)
        entrance = await self.enter(
            server.database(self), SESSION_CACHE_URL=redis.url(), API_RATE_FACTOR="0.1"
        )
        self.scrapes: list[str] = [await self.metrics(entrance.daemon)]
        await self.whatever_is_counted(redis)
        device = await entrance.device()
        live = await self.socket(device["accessToken"], "call-before", device["userId"])
        while len((await self.sessions_of_all())[1]) < 1:
            await asyncio.sleep(0.05)
        server.kill()
        fresh = await self.socket(self.issuer.token("t1"), "call-within", "t1")
        for stream in (live, fresh):
            for _ in range(20):
                await stream.send(bytes(960))
            acked = 0
            while acked < 20:
                acked = max(acked, json.loads(await stream.recv()).get("seq", 0))
        while "database" not in (await self.readiness()).get("reasons", {}):
            await asyncio.sleep(0.05)
        self.assertEqual((await self.sessions_of_all())[0], 503)
        self.scrapes.append(await self.metrics(entrance.daemon))
        for stream in (live, fresh):
            await stream.send(json.dumps({"event": "stop"}))
            last = (await said(stream))[-1]
            self.assertEqual((last["event"], last["published"]), ("stopped", 20))
        server.restart()
        rows: list[dict[str, Any]] = []
        while not rows or any(one["status"] != "completed" for one in rows):
            await asyncio.sleep(0.05)
            _, rows = await self.sessions_of_all()
        self.assertEqual(sorted((one["userId"], one["frames"]) for one in rows), [
            ("tester", 20), (device["userId"], 20),
        ])  # fmt: skip
        while (await self.readiness())["status"] != "ok":
            await asyncio.sleep(0.05)
        self.scrapes.append(await self.metrics(entrance.daemon))
        still = {family.name for family in CONTROL_FAMILIES if not self.moved(family.name)}
        self.assertEqual(still, set())

    async def whatever_is_counted(self, redis: RedisServer) -> None:
        """Everything that has a counter, but for what an outage counts."""
        entrance = self.entrance
        device = await entrance.device()
        token, self.counted = device["accessToken"], device["userId"]
        await entrance.post("refresh", {"refreshToken": device["refreshToken"]})
        rest, over_grpc = entrance.api("rest", token), entrance.api("grpc", token)
        name = (await rest.create("one-key")).shown.session_id
        self.assertEqual((await over_grpc.create("one-key")).shown.session_id, name)
        stream = await self.socket(token, name, device["userId"])
        await self.until(over_grpc, name, "active")
        while (await rest.page()).code != "too_many_requests":
            pass
        told = {"kind": "session_ended", "subject": "x", "node": "y"}
        redis_client.Redis.from_url(redis.url()).publish("voiceingest:control", json.dumps(told))
        await entrance.post("revoke", {}, token)
        await said(stream)
        await over_grpc.page()

    def moved(self, family: str) -> bool:
        """Whether a family was not always the same."""
        shown = {
            tuple(line for line in scrape.splitlines() if re.match(rf"{family}(_bucket)?[ {{]", line))
            for scrape in self.scrapes
        }
        return len(shown) > 1
