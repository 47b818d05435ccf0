"""Schemathesis, which knows the API by its OpenAPI document alone, finds nothing in it."""

from __future__ import annotations

import sys
from typing import Final

from twisted.internet.utils import getProcessOutputAndValue

from voiceingest.aio import as_future

from .case import asynchronous
from .test_control import ControlCase

# What it takes for a fault and the contract has so: a body that is well formed is refused where it is too
# big, or where its key was another body's; and a session that was ended is still shown.
_CONFIG: Final = """
[checks]
use_after_free.enabled = false
positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "409", "413", "422", "429"]
"""

_OPTIONS: Final = (
    *("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", "5"),
    *("--generation-deterministic", "--no-shrink", "--no-color"),
    # NUL is valid JSON and no text for PostgreSQL: it is refused, which no schema can say of every text.
    *("--generation-allow-x00", "false"),
    # Whoever logs out is let in no more.
    *("--exclude-path", "/api/auth/revoke"),
)


class SchemaTests(ControlCase):
    """The REST API, by its own description."""

    @asynchronous
    async def test_nothing_is_found(self) -> None:
        folder = self.mktemp_path()
        folder.mkdir()
        config = folder / "schemathesis.toml"
        config.write_text(_CONFIG)
        # Sessions are never too many here: that would hide everything else.
        entrance = await self.enter(f"sqlite:///{folder}/sessions.db", SESSIONS_MAX_PER_USER="100000")
        daemon, device = entrance.daemon, await entrance.device()
        command = [
            *("-m", "schemathesis.cli", "--config-file", str(config), "run", daemon.url("/openapi.json")),
            *("-H", f"Authorization: Bearer {device['accessToken']}", *_OPTIONS),
        ]
        ran = getProcessOutputAndValue(sys.executable, command, path=str(folder))
        out, err, code = await as_future(ran)
        self.assertEqual(code, 0, (out + err).decode()[-8000:])
        self.assertIn(b"No issues found", out)
        self.assertEqual((daemon.logged("http_failed"), "Traceback" in daemon.output), ([], False))
