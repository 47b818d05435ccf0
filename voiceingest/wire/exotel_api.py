"""One outbound call in the words of Exotel's API: the form that asks for it, and the answer.

``POST https://{host}/v1/Accounts/{AccountSid}/Calls/connect.json``, protocol reference section 2
(sources S3, S5, S12, S17, S18). What is easily got wrong: the person to be called goes into
``From``; the answer's keys are seen in lower case too; its ``Status`` ``in-progress`` does not mean
that anybody has answered. Pure; remembers nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ..errors import BadField, InternalError, UpstreamBusy, UpstreamFailed, UpstreamRefused
from ..limits import IDENTIFIER_MAX_CHARS

NumberFormat = Literal["e164", "national"]

# What Exotel takes (S3).
STREAM_URL_MAX_CHARS: Final = 599
CUSTOM_MAX_CHARS: Final = 128

# What may come before somebody has waited as long as it makes sense to ask.
RETRY_AFTER_MAX_S: Final = 3600.0

CALLBACK_EVENTS: Final = ("terminal", "answered")

# ITU-T E.164: at most fifteen digits with the country code; the shortest in use have seven.
_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")
_NATIONAL: Final = re.compile(r"0([1-9][0-9]{9})")
_INDIAN: Final = re.compile(r"\+91([1-9][0-9]{9})")
_NUMBER_MAX_CHARS: Final = 32

# Exotel's are hexadecimal; a little more is taken, but nothing that means something elsewhere.
_CALL_ID: Final = re.compile(rf"[A-Za-z0-9._:@+=~-]{{1,{IDENTIFIER_MAX_CHARS}}}")
_WORD: Final = re.compile(r"[a-z][a-z_-]{0,31}")

_HINTS: Final = {
    401: "the API key or token is wrong",
    402: "the account has no credit",
    403: "the account may not do this",
    404: "there is no such account",
}


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A call to be placed: into the flow at ``flow_url`` where there is one, else to ``stream_url``."""

    to: str = field(repr=False)
    caller_id: str = field(repr=False)
    stream_url: str = field(default="", repr=False)
    flow_url: str = ""
    status_callback: str = field(default="", repr=False)
    custom: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class PlacedCall:
    """What Exotel has made of it; ``status`` is one word, ``queued`` where none was said."""

    call_id: str
    status: str


def normalise_number(text: str, number_format: NumberFormat = "e164") -> str:
    """Return a telephone number as Exotel is to have it.

    Taken are E.164 and, for India, ``0`` and ten digits; blanks, dots, dashes and parentheses may
    stand between the digits. ``national`` gives ``0XXXXXXXXXX`` for ``+91XXXXXXXXXX`` and leaves
    other countries alone. Raises: ``BadField``.
    """
    bare = re.sub(r"[ ().-]", "", text) if len(text) <= _NUMBER_MAX_CHARS else ""
    national = _NATIONAL.fullmatch(bare)
    number = f"+91{national[1]}" if national else bare
    if not _E164.fullmatch(number) or (number.startswith("+91") and len(number) < len("+91XXXXXXXXXX")):
        raise BadField("to is a telephone number with its country code, such as +91 and ten digits")
    indian = _INDIAN.fullmatch(number)
    return f"0{indian[1]}" if indian and number_format == "national" else number


def checked_call_id(text: str) -> str:
    """Return a call id that may go into URLs, keys and events. Raises: ``BadField``."""
    if not _CALL_ID.fullmatch(text):
        raise BadField("the call id is missing or malformed")
    return text


def word(text: str, default: str = "unknown") -> str:
    """Return a word of a closed vocabulary of Exotel's, in lower case; ``default`` for what is none."""
    lower = text.lower()
    return lower if _WORD.fullmatch(lower) else default


def flow_url(account_sid: str, app_id: str) -> str:
    """The URL of a flow, as the API wants to have it; it is a name, and is not asked over http."""
    return f"http://my.exotel.com/{account_sid}/exoml/start_voice/{app_id}"


def form(call: CallRequest) -> list[tuple[str, str]]:
    """Return the fields of the request, in order. Raises: ``BadField``, ``InternalError``."""
    if len(call.custom) > CUSTOM_MAX_CHARS or not call.custom.isprintable():
        raise BadField(f"custom is text of at most {CUSTOM_MAX_CHARS} printable characters")
    if len(call.stream_url) > STREAM_URL_MAX_CHARS:
        raise InternalError("the URL of the stream is longer than Exotel takes")
    fields = [("From", call.to), ("CallerId", call.caller_id)]
    if call.flow_url:
        fields.append(("Url", call.flow_url))
    else:
        fields += [("StreamUrl", call.stream_url), ("StreamType", "bidirectional")]
    if call.status_callback:
        fields.append(("StatusCallback", call.status_callback))
        fields += [(f"StatusCallbackEvents[{n}]", event) for n, event in enumerate(CALLBACK_EVENTS)]
        fields.append(("StatusCallbackContentType", "application/json"))
    if call.custom:
        fields.append(("CustomField", call.custom))
    return fields


def read_answer(status: int, headers: Mapping[str, str], body: bytes) -> PlacedCall:
    """Read what was answered; the names in ``headers`` are in lower case.

    Of a refusal only its numbers are kept: its text may name the person that was to be called.
    Raises: ``UpstreamRefused``, ``UpstreamBusy``, ``UpstreamFailed``; nothing else, whatever the bytes are.
    """
    if status == 429:
        raise UpstreamBusy("Exotel takes no more calls for a while", retry_after_s=_retry_after_s(headers))
    answer = _object(body)
    if 400 <= status < 500:
        code = _number(_get(_get(answer, "restexception"), "code"))
        said = f"HTTP {status}" + (f", code {code}" if code is not None else "")
        hint = f": {_HINTS[status]}" if status in _HINTS else ""
        raise UpstreamRefused(f"Exotel has refused the call ({said}){hint}")
    if not 200 <= status < 300:
        raise UpstreamFailed(f"Exotel has not placed the call (HTTP {status})")
    call = _get(answer, "call")
    call_id, said = _get(call, "sid"), _get(call, "status")
    if not isinstance(call_id, str) or not _CALL_ID.fullmatch(call_id):
        raise UpstreamFailed("Exotel's answer names no call")
    return PlacedCall(call_id, word(said) if isinstance(said, str) else "queued")


def _object(body: bytes) -> Any:
    try:
        return json.loads(body.decode())
    except (ValueError, RecursionError):
        return None


def _get(value: Any, name: str) -> Any:
    """The member of that name in any case, ``None`` where there is no such thing."""
    if not isinstance(value, dict):
        return None
    return next((below for key, below in value.items() if key.lower() == name), None)


def _number(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 9:
        value = int(value)
    return value if type(value) is int and 0 <= value < 10**9 else None


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds only (RFC 9110 section 10.2.3 also has a date, for which a clock would be needed)."""
    seconds = _number(headers.get("retry-after", "").strip())
    return None if seconds is None else min(max(float(seconds), 1.0), RETRY_AFTER_MAX_S)
