"""A device that registers once, keeps its tokens in a file, and makes, looks at and ends a session.

    API_URL=https://voice.example.com:8443 python session_client.py kiosk-7 [tokens.json]

Needs nothing but Python. Why it does what it does: docs/how-to/sessions.md.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

URL = os.environ.get("API_URL", "http://localhost:8443").rstrip("/")
ATTEMPTS = 5


class Refused(Exception):
    """The daemon has said no; ``code`` is stable, the text is for people."""

    def __init__(self, status: int, answer: dict[str, Any]) -> None:
        super().__init__(f"{answer.get('message')} ({answer.get('code')}, HTTP {status})")
        self.code = answer.get("code")


class Device:
    """This device. Its tokens are in a file that nobody else may read."""

    def __init__(self, identifier: str, path: Path) -> None:
        self.identifier, self.path = identifier, path
        self.tokens: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def register(self) -> None:
        """Become a user, or prove that this is the same device again."""
        body = {"deviceIdentifier": self.identifier}
        if "deviceToken" in self.tokens:
            body["deviceToken"] = self.tokens["deviceToken"]
        if secret := os.environ.get("REGISTRATION_SECRET"):
            body["registrationSecret"] = secret
        self.keep(ask("POST", "/api/auth/register", body))

    def refresh(self) -> None:
        """Take new tokens. Whatever is wrong with the old ones, the device token still proves us."""
        try:
            self.keep(ask("POST", "/api/auth/refresh", {"refreshToken": self.tokens["refreshToken"]}))
        except Refused:
            self.register()

    def keep(self, tokens: dict[str, Any]) -> None:
        """Keep new tokens before they are used: a refresh token that was used is of no use any more."""
        self.tokens |= tokens
        new = self.path.with_suffix(".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(self.tokens, file)
        new.replace(self.path)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> dict[str, Any]:
        """Ask with the access token; take a new one where it does not hold, once."""
        if "accessToken" not in self.tokens:
            self.register()
        for is_last in (False, True):
            given = {"Authorization": f"Bearer {self.tokens['accessToken']}", **headers}
            try:
                return ask(method, path, body, given)
            except Refused as refused:
                if is_last or refused.code not in ("unauthorized", "token_expired", "token_revoked"):
                    raise
            self.refresh()
        raise AssertionError


def ask(method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """One question; where the daemon says when to come again, it is asked again then."""
    content = None if body is None else json.dumps(body).encode()
    given = {"Content-Type": "application/json", **(headers or {})}
    for attempt in range(ATTEMPTS):
        request = urllib.request.Request(URL + path, content, given, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            wait_s = error.headers.get("Retry-After")
            if wait_s is None or attempt == ATTEMPTS - 1:
                raise Refused(error.code, json.load(error)) from None
        time.sleep(float(wait_s))
    raise AssertionError


def main() -> None:
    """A session from its beginning to its end."""
    device = Device(sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else "tokens.json"))
    # The same key however often this is tried: never two sessions.
    key = str(uuid.uuid4())
    wanted = {"audioConfig": {"sampleRate": 24000, "encoding": "pcm16"}, "metadata": {"order": "7"}}
    session_id = device.ask("POST", "/api/session/create", wanted, **{"Idempotency-Key": key})["sessionId"]
    print("made", session_id)
    device.ask("PATCH", f"/api/session/{session_id}", {"contextData": {"topic": "invoice"}})
    shown = device.ask("GET", f"/api/session/{session_id}")
    print("it is", shown["status"], "and knows", json.dumps(shown["contextData"]))
    listed = device.ask("GET", "/api/session?status=pending")["sessions"]
    print("pending:", len(listed))
    print(device.ask("DELETE", f"/api/session/{session_id}")["message"])


if __name__ == "__main__":
    try:
        main()
    except (Refused, OSError) as problem:
        sys.exit(f"error: {problem}")
