"""Errors as gRPC says them: a status, a constant text, and the stable code beside it."""

from __future__ import annotations

import math
from typing import Any, Final, NoReturn

from grpc import StatusCode

from ...errors import (
    ContextTooBig,
    EditConflict,
    IdempotencyMismatch,
    IllegalMove,
    TooManyRequests,
    VoiceIngestError,
)

# Trailing metadata of a refusal.
CODE_KEY: Final = "voiceingest-code"
RETRY_KEY: Final = "retry-after"

# By class where the status of HTTP says too little (google.rpc.Code tells which is for what).
_BY_CLASS: Final[dict[type[VoiceIngestError], StatusCode]] = {
    IllegalMove: StatusCode.FAILED_PRECONDITION,
    EditConflict: StatusCode.ABORTED,
    IdempotencyMismatch: StatusCode.FAILED_PRECONDITION,
    ContextTooBig: StatusCode.INVALID_ARGUMENT,
}
_BY_STATUS: Final = {
    400: StatusCode.INVALID_ARGUMENT,
    401: StatusCode.UNAUTHENTICATED,
    403: StatusCode.PERMISSION_DENIED,
    404: StatusCode.NOT_FOUND,
    429: StatusCode.RESOURCE_EXHAUSTED,
    502: StatusCode.UNAVAILABLE,
    503: StatusCode.UNAVAILABLE,
}


def status_of(error: VoiceIngestError) -> StatusCode:
    """The status of an error; ``INTERNAL`` for what no caller can be blamed for."""
    return _BY_CLASS.get(type(error)) or _BY_STATUS.get(error.http_status, StatusCode.INTERNAL)


async def refuse(context: Any, error: VoiceIngestError) -> NoReturn:
    """Answer with an error; ends the call."""
    trailing = [(CODE_KEY, error.code)]
    if isinstance(error, TooManyRequests) and error.retry_after_s is not None:
        trailing.append((RETRY_KEY, str(math.ceil(error.retry_after_s))))
    await context.abort(status_of(error), error.message, tuple(trailing))
    raise AssertionError("abort raises")
