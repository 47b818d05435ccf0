"""A session over gRPC with two clients that are not ours: what they know is what reflection tells them."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import Any

import aiohttp
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest

from tests.integration.case import IngestCase, asynchronous
from tests.support.daemon import HOST, ROOT, free_port
from voiceingest.aio import as_future

from .test_clients import NODE


def node_client() -> list[str]:
    """The command of the client on npm's @grpc/grpc-js. Raises: ``SkipTest`` when it cannot run."""
    node = shutil.which("node")
    if node is None:
        raise SkipTest("node is not installed")
    if not (NODE / "node_modules" / "@grpc" / "grpc-js").is_dir():
        raise SkipTest("npm's @grpc/grpc-js is not installed: run npm ci in tests/interop/node")
    return [node, str(NODE / "grpc_client.js")]


class GrpcTests(IngestCase):
    """Without and with TLS."""

    async def session(self, command: list[str]) -> None:
        """Let a client have its session on a daemon without TLS, and on one with."""
        for tls in (False, True):
            port = free_port()
            folder = self.mktemp_path()
            folder.mkdir()
            daemon = await self.start_daemon(
                tls=tls, PUBLISH_URL="memory://", JWT_SECRET="s" * 32, GRPC_PORT=str(port), GRPC="on",
                GRPC_INTERFACE=HOST, DATABASE_URL=f"sqlite:///{folder}/sessions.db",
            )  # fmt: skip
            body = {"deviceIdentifier": "device-of-another-make"}
            register = daemon.url("/api/auth/register")
            async with aiohttp.ClientSession() as client, client.post(register, json=body) as answer:
                token = (await answer.json())["accessToken"]
            environment = {
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "GRPC_TARGET": f"{'localhost' if tls else HOST}:{port}",
                "DEVICE_TOKEN": token,
                "CA_PATH": str(daemon.ca_path) if tls else "",
            }
            ran: Any = getProcessOutputAndValue(command[0], command[1:], environment)
            out, errors, code = await as_future(ran)
            self.assertEqual(code, 0, errors.decode(errors="replace")[-2000:])
            self.check(json.loads(out.splitlines()[-1]))

    def check(self, told: dict[str, Any]) -> None:
        """Compare what a client tells with what there is to tell."""
        states = [told["started"], told["got"], told["stopped"]]
        pending = "SESSION_STATUS_PENDING"
        self.assertEqual(states, [pending, pending, "SESSION_STATUS_COMPLETED"])
        self.assertEqual(told["listed"], [True])
        self.assertEqual(told["order"], "7")
        self.assertEqual(told["again"], {"status": 9, "code": "illegal_move"})
        self.assertEqual(told["stranger"], {"status": 16, "code": "unauthorized"})

    @asynchronous
    async def test_npm_grpc_js(self) -> None:
        await self.session(node_client())

    @asynchronous
    async def test_grpc_requests(self) -> None:
        await self.session([sys.executable, "-m", "tests.interop.clients.grpc_requests_client"])
