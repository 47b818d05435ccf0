"""A session over gRPC with two clients that are not ours: what they know is what reflection tells them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import aiohttp
from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest

from tests.integration.case import IngestCase, asynchronous
from tests.support.daemon import HOST, ROOT, free_port
from voiceingest.aio import as_future

from .test_clients import NODE

PAGE = ROOT / "docs" / "how-to" / "grpc.md"


def node_client() -> list[str]:
    """The command of the client on npm's @grpc/grpc-js. Raises: ``SkipTest`` when it cannot run."""
    node = shutil.which("node")
    if node is None:
        raise SkipTest("node is not installed")
    if not (NODE / "node_modules" / "@grpc" / "grpc-js").is_dir():
        raise SkipTest("npm's @grpc/grpc-js is not installed: run npm ci in tests/interop/node")
    return [node, str(NODE / "grpc_client.js")]


def on_the_page() -> list[str]:
    """What ``docs/how-to/grpc.md`` says that the example says."""
    (block,) = re.findall(r"```text\n(made .*?)```", PAGE.read_text(), re.DOTALL)
    return str(block).splitlines()


class GrpcTests(IngestCase):
    """Without and with TLS."""

    async def session(self, command: list[str]) -> None:
        """Let a client have its session on a daemon without TLS, and on one with."""
        for out in await self.run_clients(lambda target, ca: command):
            self.check(json.loads(out.splitlines()[-1]))

    async def run_clients(
        self, command_for: Callable[[str, str], list[str]], **environment: str
    ) -> list[str]:
        """What a client says to a daemon without TLS and to one with. It has to end well."""
        said = []
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
            target, ca = f"{'localhost' if tls else HOST}:{port}", str(daemon.ca_path) if tls else ""
            given = {
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "GRPC_TARGET": target,
                "DEVICE_TOKEN": token,
                "ACCESS_TOKEN": token,
                "CA_PATH": ca,
                **environment,
            }
            command = command_for(target, ca)
            ran: Any = getProcessOutputAndValue(command[0], command[1:], given)
            out, errors, code = await as_future(ran)
            self.assertEqual(code, 0, errors.decode(errors="replace")[-2000:])
            said.append(out.decode())
        return said

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
    async def test_the_example_does_what_the_page_says(self) -> None:
        # The stubs as the page has them made, not ours.
        stubs = self.mktemp_path()
        stubs.mkdir()
        made = [f"--{kind}_out={stubs}" for kind in ("python", "grpc_python")]
        protoc = [sys.executable, "-m", "grpc_tools.protoc", "-I", str(ROOT / "proto"), *made]
        subprocess.run([*protoc, "session.proto"], check=True, timeout=60)
        example = [sys.executable, str(ROOT / "examples" / "grpc_client.py")]
        for said in await self.run_clients(
            lambda target, ca: [*example, target, *([ca] if ca else [])], PYTHONPATH=str(stubs)
        ):
            lines = [re.sub(r"ses_[\w-]{22}", "ses_", line) for line in said.splitlines()]
            self.assertEqual(lines, [re.sub(r"ses_[\w-]{22}", "ses_", line) for line in on_the_page()])

    @asynchronous
    async def test_npm_grpc_js(self) -> None:
        await self.session(node_client())

    @asynchronous
    async def test_grpc_requests(self) -> None:
        await self.session([sys.executable, "-m", "tests.interop.clients.grpc_requests_client"])
