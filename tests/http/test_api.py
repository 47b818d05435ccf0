"""The REST API at a real port, over devices and sessions in memory: every path, every way to be wrong."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from twisted.internet.utils import getProcessOutputAndValue

from tests.http.api.fakes import NOW, FakeDevices, FakeSessions
from tests.http.live import Answer, LiveCase, in_loop
from tests.support.daemon import ROOT
from voiceingest.aio import as_future
from voiceingest.config import Settings
from voiceingest.device_interfaces import Device
from voiceingest.errors import InternalError, StoreUnavailable, TokenExpired
from voiceingest.http.admin import guarded
from voiceingest.http.api.app import Api, make_api, make_operator_api
from voiceingest.stream import SessionState

ORIGIN = "https://app.example.com"
CANARY = "canary-7f3a"


class Case(LiveCase):
    """Both APIs on one site."""

    def setUp(self) -> None:
        super().setUp()
        self.devices, self.sessions = FakeDevices(), FakeSessions()
        self.put(api_rate_factor=1000)

    def put(self, proxies: tuple[str, ...] = (), **settings: Any) -> Api:
        """Serve them."""
        wanted = Settings(allowed_origins=[ORIGIN], **settings)
        wall = lambda: NOW + 100  # noqa: E731
        api = make_api(wanted, self.devices, self.sessions, self.metrics, self.reactor.seconds, wall)
        operators = make_operator_api(self.devices, self.sessions, self.metrics, self.reactor.seconds, wall)
        self.addCleanup(api.close)
        self.addCleanup(operators.close)
        self.serve({**api.pages, **operators.pages}, proxies)
        return api

    async def call(
        self, method: str, path: str, body: Any = None, *, user: str = "", **headers: str
    ) -> Answer:
        """Ask with JSON; ``user`` brings a token."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if user:
            given["Authorization"] = f"Bearer at.{user}.1"
        raw = None
        if body is not None:
            given.setdefault("Content-Type", "application/json")
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.ask(method, path, given, raw)

    async def created(self, user: str = "usr_1", **body: Any) -> str:
        """The id of a new session."""
        answer = await self.call("POST", "/api/session/create", body, user=user)
        self.assertEqual(answer.status, 201)
        return str(answer.json()["sessionId"])


class DeviceTests(Case):
    @in_loop
    async def test_from_registration_to_revocation(self) -> None:
        answer = await self.call("POST", "/api/auth/register", {"deviceIdentifier": "kiosk-7"})
        self.assertEqual(answer.status, 201)
        first = answer.json()
        self.assertEqual(
            first,
            {
                "userId": "usr_1",
                "deviceToken": "vd_1",
                "accessToken": "at.usr_1.1",
                "refreshToken": "vr_1",
                "expiresIn": 604800,
            },
        )
        self.assert_safe(answer)
        again = {"deviceIdentifier": "kiosk-7"}
        self.assert_refused(await self.call("POST", "/api/auth/register", again), 401, "device_unproven")
        again["deviceToken"] = first["deviceToken"]
        self.assertEqual((await self.call("POST", "/api/auth/register", again)).status, 201)

        answer = await self.call("POST", "/api/auth/refresh", {"refreshToken": "vr_1"})
        self.assertEqual(answer.status, 200)
        self.assertEqual(set(answer.json()), {"accessToken", "refreshToken", "expiresIn"})
        answer = await self.call("POST", "/api/auth/refresh", {"refreshToken": "vr_1"})
        self.assert_refused(answer, 401, "refresh_reused")
        self.assertEqual(answer.headers["www-authenticate"], "Bearer")

        answer = await self.call("POST", "/api/auth/revoke", user="usr_1")
        self.assertEqual((answer.status, set(answer.json())), (200, {"success", "message"}))
        self.assertEqual(self.devices.revoked, ["usr_1"])
        self.assert_refused(await self.call("GET", "/api/session", user="usr_1"), 401, "token_revoked")

    @in_loop
    async def test_a_registration_secret(self) -> None:
        self.devices.secret = "s" * 16
        body = {"deviceIdentifier": "d"}
        self.assert_refused(await self.call("POST", "/api/auth/register", body), 403, "registration_refused")
        body["registrationSecret"] = "s" * 16
        self.assertEqual((await self.call("POST", "/api/auth/register", body)).status, 201)

    @in_loop
    async def test_who_hangs_up_is_revoked_all_the_same(self) -> None:
        self.devices.waits = asyncio.Event()
        caller = await self.connect()
        await caller.send("POST", "/api/auth/revoke", {"Authorization": "Bearer at.usr_1.1"})
        await asyncio.sleep(0.05)
        await caller.close()
        await asyncio.sleep(0.05)
        self.devices.waits.set()
        await self.until(lambda: self.devices.revoked == ["usr_1"])

    @in_loop
    async def test_without_a_token_that_holds(self) -> None:
        for method, path in (
            ("POST", "/api/auth/revoke"),
            ("POST", "/api/session/create"),
            ("GET", "/api/session"),
            ("GET", "/api/session/ses_1"),
            ("PATCH", "/api/session/ses_1"),
            ("DELETE", "/api/session/ses_1"),
        ):
            for headers in (
                {},
                {"Authorization": "Bearer x"},
                {"Authorization": "Basic eDp5"},
                {"Authorization": "Bearer"},
                {"Authorization": "Bearer " + "x" * 9000},
            ):
                # Before the body is looked at: it is none.
                answer = await self.ask(method, path, headers, b"{")
                self.assert_refused(answer, 401, "unauthorized")
                self.assertEqual(answer.headers["www-authenticate"], "Bearer")
        self.assertGreater(self.metrics.auth_attempts["missing"], 0)
        self.devices.error = TokenExpired()
        self.assert_refused(await self.call("GET", "/api/session", user="u"), 401, "token_expired")


class SessionTests(Case):
    @in_loop
    async def test_one_from_its_beginning_to_its_end(self) -> None:
        asked = {
            "audioConfig": {"sampleRate": 24000},
            "voiceConfig": {"voice": "a", "x": 1},
            "metadata": {"o": "7"},
        }
        answer = await self.call("POST", "/api/session/create", asked, user="usr_1")
        self.assertEqual(answer.status, 201)
        self.assertEqual(
            answer.json(),
            {"sessionId": "ses_1", "status": "pending", "expiresAt": "2025-11-28T21:15:01.000Z"},
        )
        answer = await self.call("GET", "/api/session/ses_1", user="usr_1")
        self.assertEqual(
            answer.json(),
            {
                "sessionId": "ses_1",
                "status": "pending",
                "contextData": {},
                "transport": "rest",
                "createdAt": "2025-11-28T20:15:01.000Z",
                "updatedAt": "2025-11-28T20:15:01.000Z",
                "expiresAt": "2025-11-28T21:15:01.000Z",
                "startedAt": None,
                "endedAt": None,
                "durationS": None,
                "reason": "",
                "frames": 0,
                **asked,
            },
        )
        patch = {"voiceConfig": {"x": None}, "contextData": {"topic": "invoice"}}
        answer = await self.call(
            "PATCH", "/api/session/ses_1", patch, user="usr_1", Content_Type="application/merge-patch+json"
        )
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.json()["voiceConfig"], {"voice": "a"})
        self.assertEqual(answer.json()["contextData"], {"topic": "invoice"})
        self.assertEqual((await self.call("PATCH", "/api/session/ses_1", {}, user="usr_1")).status, 200)
        answer = await self.call("DELETE", "/api/session/ses_1", user="usr_1")
        self.assertEqual((answer.status, answer.json()["success"]), (200, True))
        for method in ("PATCH", "DELETE"):
            answer = await self.call(method, "/api/session/ses_1", {}, user="usr_1")
            self.assert_refused(answer, 409, "illegal_move")
        self.assertEqual(self.routes_measured(), {"/api/session/create", "/api/session/{id}"})

    @in_loop
    async def test_how_long_it_was(self) -> None:
        session_id = await self.created()
        kept = self.sessions.kept
        for ended_at, status, seconds in (
            (None, SessionState.ACTIVE, 88.0),
            (NOW + 20.5, SessionState.COMPLETED, 8.5),
        ):
            kept[session_id] = replace(
                kept[session_id], started_at=NOW + 12, ended_at=ended_at, status=status, frames=63
            )
            answer = await self.call("GET", f"/api/session/{session_id}", user="usr_1")
            self.assertEqual((answer.json()["durationS"], answer.json()["frames"]), (seconds, 63))

    @in_loop
    async def test_somebody_else_s_is_not_there(self) -> None:
        session_id = await self.created("usr_1")
        for method in ("GET", "PATCH", "DELETE"):
            for path in (f"/api/session/{session_id}", "/api/session/ses_9"):
                answer = await self.call(method, path, {}, user="usr_2")
                self.assert_refused(answer, 404, "session_not_found")
        self.assertEqual((await self.call("GET", "/api/session", user="usr_2")).json()["sessions"], [])

    @in_loop
    async def test_pages(self) -> None:
        ids = [await self.created() for _ in range(5)]
        seen: list[str] = []
        path = "/api/session?limit=2"
        for _ in range(3):
            page = (await self.call("GET", path, user="usr_1")).json()
            seen += [row["sessionId"] for row in page["sessions"]]
            path = f"/api/session?limit=2&cursor={page['nextCursor']}"
        self.assertEqual((seen, page["nextCursor"]), (ids[::-1], None))
        self.assertNotIn("contextData", page["sessions"][0])
        await self.call("DELETE", f"/api/session/{ids[0]}", user="usr_1")
        for status, count in (("completed", 1), ("pending", 4), ("active", 0)):
            page = (await self.call("GET", f"/api/session?status={status}", user="usr_1")).json()
            self.assertEqual(len(page["sessions"]), count)

    @in_loop
    async def test_queries_that_are_wrong(self) -> None:
        for query, field in (
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("limit=x", "limit"),
            ("limit=1e1", "limit"),
            ("status=gone", "status"),
            ("cursor=%00", "cursor"),
            ("cursor=" + "x" * 129, "cursor"),
            ("limit=" + "9" * 5000, "limit"),
        ):
            answer = await self.call("GET", f"/api/session?{query}", user="usr_1")
            self.assert_refused(answer, 400, "bad_field")
            self.assertEqual(answer.json()["fields"], [field])

    @in_loop
    async def test_an_idempotency_key(self) -> None:
        asked = {"metadata": {"a": 1}}
        key = {"Idempotency_Key": "k-1"}
        first = await self.call("POST", "/api/session/create", asked, user="usr_1", **key)
        second = await self.call("POST", "/api/session/create", asked, user="usr_1", **key)
        self.assertEqual((first.status, second.status), (201, 200))
        self.assertEqual(second.headers["idempotency-replayed"], "true")
        self.assertNotIn("idempotency-replayed", first.headers)
        self.assertEqual(first.json(), second.json())
        other = await self.call("POST", "/api/session/create", {}, user="usr_1", **key)
        self.assert_refused(other, 422, "idempotency_mismatch")
        self.assertEqual(
            (await self.call("POST", "/api/session/create", {}, user="usr_2", **key)).status, 201
        )
        for wrong in ("", "x" * 129, "a b", "\xe9"):
            answer = await self.call("POST", "/api/session/create", {}, user="usr_1", Idempotency_Key=wrong)
            self.assert_refused(answer, 400, "bad_field")


class BodyTests(Case):
    """Bodies that are wrong are told so, and never an error of ours."""

    WRONG = (
        (b"", "bad_json"),
        (b"{", "bad_json"),
        (b"[]", "bad_json"),
        (b"null", "bad_json"),
        (b'"x"', "bad_json"),
        (b"\xff\xfe{}", "bad_json"),
        (b"\xef\xbb\xbf{}", "bad_json"),
        (b'{"metadata":NaN}', "bad_json"),
        (b'{"metadata":{"a":NaN}}', "bad_json"),
        (b'{"metadata":{"a":-Infinity}}', "bad_json"),
        (b'{"metadata":{"a":1e999}}', "bad_json"),
        (b'{"metadata":{"a":' + b"9" * 5000 + b"}}", "bad_json"),
        (b'{"metadata":{"a":' + b"9" * 30 + b"}}", "bad_field"),
        (b"[" * 60_000, "bad_json"),
        (b'{"metadata":' + b'{"a":' * 400 + b"1" + b"}" * 401, "bad_field"),
        (b'{"metadata":' + b'{"a":' * 9000 + b"1" + b"}" * 9001, "bad_json"),
        (b'{"metadata":{"a":"\\ud800"}}', "bad_field"),
        (b'{"metadata":{"\\udfff":1}}', "bad_field"),
        (b'{"metadata":{"a":"\\u0000"}}', "bad_field"),
        (b'{"metadata":[]}', "bad_field"),
        (b'{"metadata":null}', "bad_field"),
        (b'{"metadata":"x"}', "bad_field"),
        (b'{"nonesuch":1}', "bad_field"),
        (b'{"session_id":1}', "bad_field"),
        (b'{"audio_config":{}}', "bad_field"),
    )

    @in_loop
    async def test_wrong_ones(self) -> None:
        session_id = await self.created()
        for method, path in (("POST", "/api/session/create"), ("PATCH", f"/api/session/{session_id}")):
            for body, code in self.WRONG:
                self.assert_refused(await self.call(method, path, body, user="usr_1"), 400, code)
        for body, code in self.WRONG:
            for path in ("/api/auth/register", "/api/auth/refresh"):
                self.assert_refused(await self.call("POST", path, body), 400, code)
        self.assertEqual(len(self.sessions.kept), 1)

    @in_loop
    async def test_which_field(self) -> None:
        for body, fields in (
            ({}, ["deviceIdentifier"]),
            ({"deviceIdentifier": ""}, ["deviceIdentifier"]),
            ({"deviceIdentifier": 7}, ["deviceIdentifier"]),
            ({"deviceIdentifier": "x" * 257}, ["deviceIdentifier"]),
            ({"deviceIdentifier": "a\n"}, ["deviceIdentifier"]),
            ({"deviceIdentifier": "a", "deviceToken": " "}, ["deviceToken"]),
            ({"deviceIdentifier": "a", "b": 1, "<script>": 2}, ["b", "?"]),
        ):
            answer = await self.call("POST", "/api/auth/register", body)
            self.assert_refused(answer, 400, "bad_field")
            self.assertEqual(answer.json()["fields"], fields)

    @in_loop
    async def test_types_of_content(self) -> None:
        for wrong in (
            "",
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/jsonx",
            "application/json; charset=utf-16",
            "application/json, text/plain",
        ):
            answer = await self.call(
                "POST", "/api/auth/register", {"deviceIdentifier": "a"}, Content_Type=wrong
            )
            self.assert_refused(answer, 400, "bad_request")
        answer = await self.ask("POST", "/api/auth/register", {}, b'{"deviceIdentifier":"a"}')
        self.assert_refused(answer, 400, "bad_request")
        for right in ("application/json", "Application/JSON; charset=UTF-8"):
            body = {"deviceIdentifier": right}
            answer = await self.call("POST", "/api/auth/register", body, Content_Type=right)
            self.assertEqual(answer.status, 201)

    @in_loop
    async def test_whatever_is_plain_json_comes_back(self) -> None:
        metadata = {
            "": "\N{GRINNING FACE} \u2028 \x7f",
            "n": [None, True, -(2**63), 2**63 - 1, 0.5, 1e300, []],
            "o": {"p": {"q": {}}},
        }
        session_id = await self.created(metadata=metadata)
        answer = await self.call("GET", f"/api/session/{session_id}", user="usr_1")
        self.assertEqual(answer.json()["metadata"], metadata)


class AroundTests(Case):
    """Methods, origins, errors of ours, ids of requests."""

    @in_loop
    async def test_methods(self) -> None:
        for method, path, allow in (
            ("GET", "/api/auth/register", "OPTIONS, POST"),
            ("PUT", "/api/session", "GET, HEAD, OPTIONS"),
            ("POST", "/api/session", "GET, HEAD, OPTIONS"),
            ("TRACE", "/docs", "GET, HEAD, OPTIONS"),
            ("PUT", "/api/session/x", "DELETE, GET, HEAD, OPTIONS, PATCH"),
            ("BREW", "/api/session/x", "DELETE, GET, HEAD, OPTIONS, PATCH"),
            ("PUT", "/api/session/create", "OPTIONS, POST"),
            ("POST", "/openapi.json", "GET, HEAD, OPTIONS"),
        ):
            answer = await self.call(method, path)
            self.assert_refused(answer, 405, "method_not_allowed")
            self.assertEqual(answer.headers["allow"], allow)
        for method in ("GET", "PATCH", "DELETE", "HEAD"):
            answer = await self.call(method, "/api/session/create", user="usr_1")
            self.assertEqual((answer.status, answer.headers["allow"]), (405, "OPTIONS, POST"))

    @in_loop
    async def test_paths_that_lead_nowhere(self) -> None:
        for path in (
            "/api/session/",
            "/api/session/a/b",
            "/api//session",
            "/api/session/%2e%2e",
            "/api/auth",
            "/docs/",
            "/api/auth/register/",
            "/redoc",
            "/docs/oauth2-redirect",
            "/api/session/a%2fb",
        ):
            self.assert_refused(await self.call("GET", path, user="usr_1"), 404, "not_found")

    @in_loop
    async def test_head(self) -> None:
        session_id = await self.created()
        for path in ("/docs", "/openapi.json", "/api/session", f"/api/session/{session_id}"):
            got = await self.call("GET", path, user="usr_1")
            head = await self.call("HEAD", path, user="usr_1")
            self.assertEqual((head.status, head.headers["content-length"]), (200, str(len(got.body))))

    @in_loop
    async def test_origins(self) -> None:
        answer = await self.call("GET", "/openapi.json", Origin=ORIGIN)
        self.assertEqual(answer.headers["access-control-allow-origin"], ORIGIN)
        self.assertEqual(answer.headers["vary"], "Origin")
        self.assertIn("Retry-After", answer.headers["access-control-expose-headers"])
        self.assertNotIn("access-control-allow-credentials", answer.headers)
        answer = await self.call("GET", "/api/session", Origin=ORIGIN)
        self.assert_refused(answer, 401, "unauthorized")
        self.assertEqual(answer.headers["access-control-allow-origin"], ORIGIN)
        for wrong in ("https://evil.example.com", "null", ORIGIN + ".evil.com", ORIGIN.upper()):
            answer = await self.call("GET", "/openapi.json", Origin=wrong)
            self.assert_refused(answer, 403, "origin_refused")
            self.assertNotIn("access-control-allow-origin", answer.headers)
        self.assertNotIn("access-control-allow-origin", (await self.call("GET", "/openapi.json")).headers)

    @in_loop
    async def test_preflights(self) -> None:
        asks = {"Access_Control_Request_Method": "PATCH", "Access_Control_Request_Headers": "authorization"}
        answer = await self.call("OPTIONS", "/api/session/ses_1", Origin=ORIGIN, **asks)
        self.assertEqual((answer.status, answer.body), (204, b""))
        self.assertEqual(answer.headers["access-control-allow-methods"], "DELETE, GET, HEAD, OPTIONS, PATCH")
        self.assertIn("Idempotency-Key", answer.headers["access-control-allow-headers"])
        answer = await self.call("OPTIONS", "/api/session/ses_1", Origin="https://evil.example.com", **asks)
        self.assert_refused(answer, 403, "origin_refused")
        answer = await self.call("OPTIONS", "/api/session/ses_1")
        self.assertEqual(answer.status, 204)
        self.assertNotIn("access-control-allow-methods", answer.headers)

    @in_loop
    async def test_the_id_of_a_request(self) -> None:
        for path, user in (("/api/session", "usr_1"), ("/api/session", ""), ("/docs", "")):
            answer = await self.call("GET", path, user=user, X_Request_Id="abc-7")
            self.assertEqual(answer.headers["x-request-id"], "abc-7")
            answer = await self.call("GET", path, user=user, X_Request_Id="a b")
            self.assertEqual(len(answer.headers["x-request-id"]), 20)

    @in_loop
    async def test_the_database_is_away(self) -> None:
        self.sessions.error = StoreUnavailable()
        answer = await self.call("GET", "/api/session", user="usr_1")
        self.assert_refused(answer, 503, "store_unavailable")
        self.assertEqual(answer.headers["retry-after"], "5")
        self.assertEqual(self.metrics.errors["store_unavailable", "http"], 1)

    @in_loop
    async def test_a_bug_of_ours(self) -> None:
        self.sessions.error = KeyError(CANARY)
        answer = await self.call("GET", "/api/session", user="usr_1", Origin=ORIGIN)
        self.assert_refused(answer, 500, "internal")
        self.assertEqual(answer.json()["message"], InternalError().message)
        self.assertEqual(answer.headers["access-control-allow-origin"], ORIGIN)
        await self.until(lambda: self.flushLoggedErrors(KeyError))
        self.assertEqual(self.metrics.errors["internal", "http"], 1)

    @in_loop
    async def test_the_page_and_the_document(self) -> None:
        answer = await self.call("GET", "/docs")
        self.assertEqual(answer.headers["content-type"], "text/html; charset=utf-8")
        self.assertIn("style-src 'sha256-", answer.headers["content-security-policy"])
        self.assertNotIn(b"<script", answer.body)
        document = (await self.call("GET", "/openapi.json")).json()
        self.assertEqual(document["openapi"][:2], "3.")
        self.assertNotIn("/api/admin/sessions", document["paths"])


class LimitTests(Case):
    @in_loop
    async def test_headers_and_429(self) -> None:
        self.put(api_rate_factor=0.02)
        body = {"deviceIdentifier": "a"}
        found = [await self.call("POST", "/api/auth/refresh", body) for _ in range(3)]
        self.assertEqual([answer.status for answer in found], [400, 400, 429])
        self.assert_refused(found[2], 429, "too_many_requests")
        told = [
            {name: answer.headers.get(name) for name in ("ratelimit-limit", "ratelimit-remaining")}
            for answer in found
        ]
        # Also of the one that is refused.
        self.assertEqual([one["ratelimit-remaining"] for one in told], ["1", "0", "0"])
        self.assertEqual({one["ratelimit-limit"] for one in told}, {"2"})
        for answer in found:
            self.assertLessEqual(1, int(answer.headers["ratelimit-reset"]), 60)
        self.assertGreater(int(found[2].headers["retry-after"]), 5)
        self.assertEqual(self.metrics.requests_limited["/api/auth/refresh"], 1)
        # Another route has a limit of its own.
        self.assertEqual((await self.call("POST", "/api/auth/register", body)).status, 201)

    @in_loop
    async def test_each_user_has_its_own(self) -> None:
        self.put(("127.0.0.1",), api_rate_factor=0.01)
        statuses = []
        for user, address in (("usr_1", "192.0.2.1"), ("usr_1", "192.0.2.2"), ("usr_2", "192.0.2.2")):
            answer = await self.call("POST", "/api/session/create", {}, user=user, X_Forwarded_For=address)
            statuses.append((answer.status, answer.headers["ratelimit-remaining"]))
        self.assertEqual(statuses, [(201, "0"), (429, "0"), (201, "0")])

    @in_loop
    async def test_none(self) -> None:
        self.put(api_rate_factor=0)
        for _ in range(3):
            answer = await self.call("GET", "/docs")
            self.assertNotIn("ratelimit-limit", answer.headers)


class OperatorTests(Case):
    def setUp(self) -> None:
        super().setUp()
        self.devices.listed = [
            Device(f"dev_{number}", f"usr_{number}", NOW, NOW, b"", b"", NOW if number == 2 else None)
            for number in range(1, 4)
        ]

    @in_loop
    async def test_everybody_s_sessions(self) -> None:
        ids = [await self.created(user) for user in ("usr_1", "usr_2", "usr_1")]
        page = (await self.call("GET", "/api/admin/sessions?limit=2")).json()
        self.assertEqual([row["sessionId"] for row in page["sessions"]], ids[:0:-1])
        self.assertEqual(page["sessions"][0]["userId"], "usr_1")
        rest = (await self.call("GET", f"/api/admin/sessions?limit=2&cursor={page['nextCursor']}")).json()
        self.assertEqual([row["sessionId"] for row in rest["sessions"]], ids[:1])
        of_two = (await self.call("GET", "/api/admin/sessions?userId=usr_2&status=pending")).json()
        self.assertEqual([row["sessionId"] for row in of_two["sessions"]], ids[1:2])
        shown = (await self.call("GET", f"/api/admin/sessions/{ids[1]}")).json()
        self.assertEqual(
            (shown["userId"], shown["deviceId"], shown["contextData"]), ("usr_2", "dev_usr_2", {})
        )
        self.assertEqual((await self.call("DELETE", f"/api/admin/sessions/{ids[1]}")).status, 200)
        answer = await self.call("DELETE", f"/api/admin/sessions/{ids[1]}")
        self.assert_refused(answer, 409, "illegal_move")
        self.assert_refused(await self.call("GET", "/api/admin/sessions/nope"), 404, "session_not_found")

    @in_loop
    async def test_devices(self) -> None:
        page = (await self.call("GET", "/api/admin/devices?limit=2")).json()
        self.assertEqual(
            page["devices"][1],
            {
                "deviceId": "dev_2",
                "userId": "usr_2",
                "createdAt": "2025-11-28T20:15:00.000Z",
                "lastSeenAt": "2025-11-28T20:15:00.000Z",
                "revokedAt": "2025-11-28T20:15:00.000Z",
            },
        )
        rest = (await self.call("GET", f"/api/admin/devices?cursor={page['nextCursor']}")).json()
        self.assertEqual(
            ([one["deviceId"] for one in rest["devices"]], rest["nextCursor"]), (["dev_3"], None)
        )
        self.assertEqual((await self.call("POST", "/api/admin/devices/dev_1/revoke")).status, 200)
        self.assertEqual(self.devices.revoked, ["dev_1"])
        answer = await self.call("POST", "/api/admin/devices/dev_9/revoke")
        self.assert_refused(answer, 404, "device_not_found")

    @in_loop
    async def test_a_page_of_another_site_presses_no_button(self) -> None:
        session_id = await self.created()
        for method, path in (
            ("DELETE", f"/api/admin/sessions/{session_id}"),
            ("POST", "/api/admin/devices/dev_1/revoke"),
        ):
            for origin in ("https://evil.example.com", "null", "http://["):
                self.assert_refused(await self.call(method, path, Origin=origin), 403, "origin_refused")
            self.assertEqual((await self.call(method, path, Origin="http://localhost")).status, 200)

    @in_loop
    async def test_behind_the_admin_token(self) -> None:
        await self.created()
        now = self.reactor.seconds
        operators = make_operator_api(self.devices, self.sessions, self.metrics, now, lambda: NOW)
        self.addCleanup(operators.close)
        self.serve(guarded(operators.pages, SecretStr("t" * 32), self.metrics))
        for path in operators.pages:
            answer = await self.call("GET", path.replace("{id}", "ses_1"))
            self.assert_refused(answer, 401, "unauthorized")
        answer = await self.call("GET", "/api/admin/sessions/ses_1", Authorization="Bearer " + "t" * 32)
        self.assertEqual(answer.status, 200)
        self.assertNotIn("ratelimit-limit", answer.headers)
        self.assertIn("/api/admin/sessions/{id}", self.routes_measured())


class ExampleTests(Case):
    """The client of ``docs/how-to/sessions.md``, as a process of its own."""

    async def run_example(self, tokens: Path) -> list[str]:
        environment = {**os.environ, "API_URL": f"http://127.0.0.1:{self.port}"}
        arguments = [str(ROOT / "examples" / "session_client.py"), "kiosk-7", str(tokens)]
        out, err, code = await as_future(
            getProcessOutputAndValue(sys.executable, arguments, environment, reactor=self.reactor)
        )
        self.assertEqual((code, err), (0, b""))
        return list(out.decode().splitlines())

    @in_loop
    async def test_it_does_what_the_page_says_and_keeps_its_tokens(self) -> None:
        tokens = self.mktemp_path()
        said = await self.run_example(tokens)
        self.assertRegex(said[0], r"^made ses_\w+$")
        self.assertEqual(
            said[1:],
            ['it is pending and knows {"topic": "invoice"}', "pending: 1", "the session has ended"],
        )
        self.assertEqual(tokens.stat().st_mode & 0o777, 0o600)
        # An access token that does not hold any more is replaced, by its refresh token.
        kept = json.loads(tokens.read_text())
        tokens.write_text(json.dumps({**kept, "accessToken": "old"}))
        await self.run_example(tokens)
        self.assertEqual(self.devices.used, {kept["refreshToken"]})
        # And one whose refresh token was used before registers again, as the same user.
        tokens.write_text(json.dumps({**kept, "accessToken": "old"}))
        await self.run_example(tokens)
        self.assertEqual({session.user_id for session in self.sessions.kept.values()}, {kept["userId"]})
