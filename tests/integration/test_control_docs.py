"""The curl lines of the pages on devices and sessions, run in their order against a whole daemon."""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import Any, Final

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest

from tests.support.daemon import ROOT, Daemon
from voiceingest.aio import as_future

from .case import IngestCase, asynchronous
from .test_docs import blocks

PAGES: Final = ROOT / "docs" / "how-to"
REGISTRATION_SECRET: Final = "what-a-new-device-has-to-bring"

# What the pages write where everybody has something else.
PLACES: Final = ("http://localhost:8443", "https://voice.example.com")
SESSION: Final = r"ses_[A-Za-z0-9_-]{22}"


class CurlTests(IngestCase):
    """Each page is read from its beginning; what one answer gives the next line brings."""

    async def run_page(self, name: str, daemon: Daemon, known: dict[str, str]) -> list[Any]:
        """Run the curl lines of a page; ``known`` are words of the page, and what they stand for here."""
        answers: list[Any] = []
        page = blocks(PAGES / name, "sh", "json")
        for at, block in enumerate(page):
            if block.language != "sh" or not block.text.startswith("curl "):
                continue
            for command in re.split(r"\n(?=curl )", block.text.strip()):
                answer = await self.curl(command, daemon, known)
                answers.append(answer)
            follows = page[at + 1] if at + 1 < len(page) else None
            if follows is not None and follows.language == "json":
                self.assertEqual(set(answer), set(json.loads(follows.text)), block.text)
        return answers

    async def curl(self, command: str, daemon: Daemon, known: dict[str, str]) -> Any:
        """One of them, with the words it has to have here; tokens of its answer are known from then on."""
        for place in PLACES:
            command = command.replace(place, daemon.url(""))
        command = command.replace("http://127.0.0.1:9464", daemon.admin_url(""))
        for word, meaning in known.items():
            if not word.isupper():
                command = re.sub(word, meaning.replace("\\", r"\\"), command)
        variables = {word: meaning for word, meaning in known.items() if word.isupper()}
        ran: Any = getProcessOutputAndValue("/bin/bash", ["-c", command], {**os.environ, **variables})
        out, errors, code = await as_future(ran)
        self.assertEqual(code, 0, errors)
        answer = json.loads(out)
        self.assertNotIn("code", answer, command)
        for member, word, pattern in (
            ("accessToken", "ACCESS_TOKEN", ""),
            ("refreshToken", "REFRESH_TOKEN", r"vr_\.\.\."),
            ("deviceToken", "", r"vd_\.\.\."),
            ("sessionId", "", SESSION),
        ):
            if member in answer:
                known |= {name: answer[member] for name in (word, pattern) if name}
        return answer

    @asynchronous
    async def test_they_do_what_the_pages_say(self) -> None:
        if shutil.which("curl") is None:
            raise SkipTest("curl is not installed")
        settings = {"PUBLISH_URL": "memory://", "JWT_SECRET": "s" * 32, "GRPC": "off", "SERVICE_NAME": "x"}
        daemon = await self.start_daemon(**settings)
        answers = await self.run_page("sessions.md", daemon, {})
        self.assertEqual([answer.get("status") for answer in answers[1:3]], ["pending", "pending"])
        self.assertEqual(answers[2]["contextData"], {"topic": "invoice"})
        self.assertEqual(len(answers[3]["sessions"]), 1)
        self.assertEqual(answers[4]["success"], True)
        guarded = await self.start_daemon(**settings, REGISTRATION_SECRET=REGISTRATION_SECRET)
        known = {r'"registrationSecret": "\.\.\."': f'"registrationSecret": "{REGISTRATION_SECRET}"'}
        known[r"dev_\.\.\."] = await self.an_older_device(guarded, known)
        first, again, *_ = await self.run_page("devices.md", guarded, known)
        self.assertEqual(first["userId"], again["userId"])

    async def an_older_device(self, daemon: Daemon, known: dict[str, str]) -> str:
        """One that an operator finds and revokes."""
        register = blocks(PAGES / "devices.md", "sh")[1].text.strip()
        await self.curl(register.replace("kiosk-7", "kiosk-6"), daemon, dict(known))
        _, body = await as_future(daemon.get(daemon.admin_url("/api/admin/devices")))
        (device,) = json.loads(body)["devices"]
        return str(device["deviceId"])
