"""What an auditor asks for: who was let in and who was put out. Names we made up, and nothing else."""

from __future__ import annotations

from typing import Literal

from twisted.logger import Logger

Action = Literal[
    "device_registered", "device_proved", "tokens_refreshed", "refresh_reused", "tokens_revoked",
    "device_revoked", "registration_refused",
]

_log = Logger()


def audit(action: Action, device_id: str | None = None, family_id: str | None = None) -> None:
    """Write one line; what is not known stays away."""
    names = {"device_id": device_id, "family_id": family_id}
    known = {name: value for name, value in names.items() if value is not None}
    _log.info("audit: {action}", event="audit", action=action, **known)
