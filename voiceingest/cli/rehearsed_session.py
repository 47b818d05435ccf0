"""The third part of ``voiceingest demo``: a device that registers, and a stream that becomes its session."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .sources import frames

if TYPE_CHECKING:
    from .running import Interrupt
    from .stage import Stage
    from .wavfile import Recording

FRAME_MS: Final = 100
SPEECH_S: Final = 0.5
_NEEDED: Final = ("fastapi", "sqlalchemy", "alembic", "aiosqlite", "limits", "redis")

# What a stream was is written behind it, within moments.
_TURN_S: Final = 0.05
_TURNS_MAX_COUNT: Final = 100


def is_possible() -> bool:
    """Whether what keeps sessions is installed."""
    return all(find_spec(name) is not None for name in _NEEDED)


def settings(folder: Path) -> dict[str, Any]:
    """What a daemon is told that keeps sessions in ``folder``. gRPC would want a port of its own."""
    return {
        "jwt_secret": os.urandom(32).hex(),
        "database_url": f"sqlite:///{folder}/sessions.db",
        "session_cache": "off",
        "grpc": "off",
    }


@dataclass(frozen=True, slots=True)
class SessionOutcome:
    """How it went: what the API shows of the session in the end, beside what was sent."""

    sent: int
    shown: Mapping[str, Any]
    failure: str | None = None

    def problems(self) -> list[str]:
        """What was not as it should be, in words."""
        if self.failure is not None:
            return [f"session: {self.failure}"]
        found = []
        if self.shown.get("status") != "completed":
            found.append(f"session: it is {self.shown.get('status')}, not completed")
        if self.shown.get("frames") != self.sent:
            found.append(f"session: it knows of {self.shown.get('frames')} frames of {self.sent}")
        return found

    def document(self) -> dict[str, Any]:
        """For programs."""
        wanted = ("status", "transport", "frames", "reason")
        return {"sent_frames": self.sent, **{name: self.shown.get(name) for name in wanted}}

    def pairs(self) -> dict[str, str]:
        """For people."""
        if self.failure is not None:
            return {"session": self.failure}
        state = f"{self.shown.get('status')}, {self.shown.get('frames')} of {self.sent} frames"
        return {"session": f"{state}; a device registered, made it and brought it audio"}


class Refused(Exception):
    """The API did not do what it was asked; the text is for people."""


async def session(
    reactor: Any, interrupt: Interrupt, stage: Stage, recording: Recording
) -> SessionOutcome | None:
    """Register a device, make a session, bring it audio, and see what became of it.

    ``None`` where it was interrupted: nobody has seen it to its end.
    """
    try:
        outcome = await _held(reactor, interrupt, stage, recording)
    except Refused as refused:
        outcome = SessionOutcome(0, {}, str(refused))
    return None if interrupt.asked else outcome


async def _held(reactor: Any, interrupt: Interrupt, stage: Stage, recording: Recording) -> SessionOutcome:
    """Raises: ``Refused``."""
    from .streams import Plan, run_streams

    device = await _ask(reactor, stage, "POST", "/api/auth/register", {"deviceIdentifier": "demo"})
    token = str(device["accessToken"])
    made = await _ask(reactor, stage, "POST", "/api/session/create", {}, token)
    name = str(made["sessionId"])
    plan = Plan(
        stage.target, stage.trust, str(device["userId"]), recording.sample_rate, FRAME_MS / 1000,
        token=lambda interaction: token,
    )  # fmt: skip
    (report,) = await run_streams(
        reactor, plan, [name], lambda: frames(recording, FRAME_MS, SPEECH_S), interrupt, _unheard
    )
    sent = report.tally.sent_frames
    if report.failure is not None:
        return SessionOutcome(sent, {}, report.failure)
    return SessionOutcome(sent, await _ended(reactor, stage, name, token))


def _unheard(frame: bytes, tally: Any) -> None:
    """The bar of the demo is for the first stream."""


async def _ended(reactor: Any, stage: Stage, name: str, token: str) -> Mapping[str, Any]:
    """The session once it has ended, or as it is after a while."""
    from twisted.internet.task import deferLater

    shown: Mapping[str, Any] = {}
    for _ in range(_TURNS_MAX_COUNT):
        shown = await _ask(reactor, stage, "GET", f"/api/session/{name}", None, token)
        if shown.get("endedAt") is not None:
            break
        await deferLater(reactor, _TURN_S)
    return shown


async def _ask(
    reactor: Any,
    stage: Stage,
    method: str,
    path: str,
    body: Mapping[str, Any] | None,
    token: str | None = None,
) -> Mapping[str, Any]:
    """One question to the public site, as any program would ask it. Raises: ``Refused``."""
    from twisted.internet.threads import deferToThreadPool

    from .failures import CommandFailed
    from .operator import ask_daemon

    try:
        # In a thread: whoever asks waits, and whoever answers is this process too.
        status, answer = await deferToThreadPool(
            reactor, reactor.getThreadPool(), ask_daemon, stage.place, method, path, body, token,
            ca=stage.ca_path,
        )  # fmt: skip
    except CommandFailed as failed:
        raise Refused(failed.message) from failed
    if status >= 400:
        raise Refused(f"{method} {path} was refused: {answer.get('code')}")
    return dict(answer)
