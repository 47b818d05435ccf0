"""One question to somebody else's service, and what its refusals mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from ..call_interfaces import IHttpAnswer, IHttpClient
from ..errors import UpstreamBusy, UpstreamFailed, UpstreamRefused, VoiceIngestError
from ..limits import BODY_MAX_BYTES


def ask(
    http: IHttpClient, url: str, *, headers: Mapping[str, str], body: bytes, timeout_s: float
) -> Deferred[IHttpAnswer]:
    """Post JSON; fires with an answer that is one, its body still to be taken.

    Raises: ``UpstreamRefused``, ``UpstreamBusy``, ``UpstreamFailed``. Cancelling it cuts the connection.
    """
    given = {**headers, "Content-Type": "application/json"}
    return http.request("POST", url, headers=given, body=body, timeout_s=timeout_s).addCallback(_checked)


def _checked(answer: IHttpAnswer) -> Deferred[IHttpAnswer]:
    if answer.status == 200:
        return succeed(answer)
    error = refusal(answer.status)

    def refuse(outcome: bytes | Failure) -> NoReturn:
        if isinstance(outcome, Failure) and not outcome.check(VoiceIngestError):
            outcome.raiseException()
        raise error

    # What it says is for nobody; it is read so that the connection can be used again.
    return answer.read(BODY_MAX_BYTES).addBoth(refuse)


def refusal(status: int) -> VoiceIngestError:
    """What a status other than 200 means. 408, 425 and 429 ask for patience, as 503 does."""
    if status in (408, 425, 429, 503):
        return UpstreamBusy()
    if 400 <= status < 500:
        return UpstreamRefused()
    return UpstreamFailed()
