"""``GET /voicebot/sessions``: the calls there are, for operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.web.resource import IResource

from ..metrics import Metrics
from .answers import Answer
from .resource import ApiResource

SESSIONS_PATH: Final = "/voicebot/sessions"


def session_routes(shown: Callable[[], dict[str, Any]], metrics: Metrics) -> dict[str, IResource]:
    """``shown`` gives the answer; it names callers, so the page is not for everybody."""
    return {SESSIONS_PATH: ApiResource(metrics, {"GET": lambda request: Answer(200, shown())})}
