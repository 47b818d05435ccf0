"""The JetStream stream frames go to: made when it is absent, looked at and left alone when it is there.

Only the leader of a stream answers for it. While one is being elected nobody does (nats-server,
server/jetstream_api.go, ``jsStreamInfoRequest``), and what was asked then is never answered: the
question is put again and again on the connection that stands, and the first answer counts.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from nats import errors as nats_errors
from nats.js import JetStreamContext, api
from nats.js import errors as js_errors

from .nats_link import BusRefusal
from .nats_subjects import covers, pattern

if TYPE_CHECKING:
    from ..config.settings import Settings

# JetStream's own error codes (nats-server, server/errors.json) and our words for them.
_REASONS: Final = {
    10005: "resources",  # no suitable peers for placement
    10008: "noleader",  # JetStream system temporarily unavailable
    10009: "noleader",  # JetStream cluster not ready
    10023: "resources",  # insufficient resources
    10026: "full",  # account has too many streams
    10028: "resources",  # memory
    10039: "nojetstream",  # not enabled for this account
    10047: "resources",  # storage
    10059: "nostream",  # stream not found
    10065: "subject",  # subjects overlap with an existing stream
    10074: "replicas",  # more replicas than servers, or not clustered
    10076: "nojetstream",  # not enabled
    10077: "full",  # the store refuses: maximum bytes or messages, discard new
    10109: "sealed",
    10118: "noleader",  # stream is offline
}
# So soon after the election of a leader it is found; what was asked before may still be answered.
_ASK_AGAIN_S: Final = 0.25

# Errors about one message: it will never be taken, whoever asks.
_MESSAGE_REASONS: Final = {10054: "too_big", 10097: "too_big"}


@dataclass(frozen=True, slots=True)
class StreamState:
    """A stream that can be used; ``differences`` are readable lines where it is not as the settings say."""

    differences: tuple[str, ...] = ()


def verdict_of(answer: bytes, headers: bytes | None) -> tuple[str, bool]:
    """What an answer that is no plain PubAck says: our word, and whether it is about one message only."""
    if headers and headers.startswith(b"NATS/1.0 503"):
        # Nobody takes the subject: no stream has it, or the stream has no leader.
        return "noleader", False
    try:
        error = json.loads(answer)["error"]
        code, number = error.get("code"), error.get("err_code")
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return "protocol", False
    if number in _MESSAGE_REASONS:
        return _MESSAGE_REASONS[number], True
    return _word(code, number), False


async def ready_stream(js: JetStreamContext, settings: Settings) -> StreamState:
    """Have a stream that takes our subjects and has a leader, for which ``js``'s timeout is waited.

    Raises: ``BusRefusal``, ``nats.errors.ConnectionClosedError``.
    """
    wanted = stream_config(settings)
    try:
        try:
            info = await _first_answer(lambda: js.stream_info(settings.nats_stream))
        except js_errors.NotFoundError as error:
            if _word(error.code, error.err_code) != "nostream":
                raise
            info = await _made(js, wanted)
    except (js_errors.APIError, nats_errors.TimeoutError, ValueError) as error:
        raise BusRefusal(_reason(error)) from None
    return _judged(info, wanted)


def stream_config(settings: Settings) -> api.StreamConfig:
    """The stream the settings ask for."""
    return api.StreamConfig(
        name=settings.nats_stream,
        subjects=list(dict.fromkeys([pattern(settings.nats_subject), pattern(settings.nats_events_subject)])),
        retention=api.RetentionPolicy.LIMITS,
        discard=api.DiscardPolicy.OLD,
        storage=api.StorageType.FILE,
        num_replicas=settings.nats_replicas,
        max_age=settings.nats_max_age_s,
        max_bytes=settings.nats_max_bytes,
        # A window longer than the age is refused (error 10052).
        duplicate_window=min(settings.nats_duplicate_window_s, settings.nats_max_age_s),
    )


async def _first_answer(
    ask: Callable[[], Coroutine[Any, Any, api.StreamInfo]], again_s: float = _ASK_AGAIN_S
) -> api.StreamInfo:
    """Ask every ``again_s`` until one of the questions has its answer or has waited too long for it."""
    asked: set[asyncio.Task[api.StreamInfo]] = set()
    try:
        while True:
            asked.add(asyncio.create_task(ask()))
            answered, _ = await asyncio.wait(asked, timeout=again_s, return_when=asyncio.FIRST_COMPLETED)
            if answered:
                return await answered.pop()
    finally:
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


async def _made(js: JetStreamContext, wanted: api.StreamConfig) -> api.StreamInfo:
    try:
        return await js.add_stream(wanted)
    except js_errors.BadRequestError as error:
        if error.err_code != 10058:
            raise
        # Another process was quicker, with other settings.
        return await js.stream_info(str(wanted.name))


def _judged(info: api.StreamInfo, wanted: api.StreamConfig) -> StreamState:
    """Raises: ``BusRefusal`` for what makes the stream useless."""
    if info.cluster is not None and not info.cluster.leader:
        raise BusRefusal("noleader")
    config = info.config
    for ours in wanted.subjects or ():
        if not any(covers(theirs, ours) for theirs in config.subjects or ()):
            raise BusRefusal("subject")
    compared: list[tuple[str, Any, Any]] = [
        ("storage", _plain(config.storage), _plain(wanted.storage)),
        ("replicas", config.num_replicas, wanted.num_replicas),
        ("max_age_s", config.max_age or 0, wanted.max_age),
        ("max_bytes", config.max_bytes, wanted.max_bytes),
        ("duplicate_window_s", config.duplicate_window, wanted.duplicate_window),
    ]
    return StreamState(
        tuple(f"{name} is {has}, the settings say {says}" for name, has, says in compared if has != says)
    )


def _plain(value: Any) -> Any:
    return getattr(value, "value", value)


def _reason(error: Exception) -> str:
    if not isinstance(error, js_errors.APIError):
        # No answer, or none that can be read: the JetStream of this server follows no leader.
        return "noleader"
    if error.code is None and error.err_code is None:
        # nats-py's form of "no responders": nobody listens to JetStream's subjects.
        return "nojetstream"
    return _word(error.code, error.err_code)


def _word(code: Any, number: Any) -> str:
    return _REASONS.get(number) or ("noleader" if code == 503 else "jetstream")
