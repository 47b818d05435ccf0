"""What Exotel tells of a call that was placed: one status callback.

Protocol reference section 2 (sources S12, S19). ``CallSid`` and ``Status`` are always there; the
event, the duration and the legs only where events were asked for, and by one page not even then
for a call to one person. Telephone numbers and the recording's URL are there too and are left there.
Pure; remembers nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .exotel_api import checked_call_id, word
from .exotel_fields import Fields, one, read_fields

# Two are documented: who calls and who is called.
_LEGS_MAX_COUNT: Final = 8
_DURATION_MAX_DIGITS: Final = 7

# A callback that names no event is the one at the end of a call.
_DEFAULT_EVENT: Final = "terminal"


@dataclass(frozen=True, slots=True)
class Leg:
    """One side of the call; ``answered_by`` is such as ``human``, ``machine``, ``na``."""

    status: str
    duration_s: int | None
    answered_by: str


@dataclass(frozen=True, slots=True)
class StatusCallback:
    """What became of a call. Every text is one short word; the id is checked."""

    call_id: str
    event: str
    status: str
    duration_s: int | None = None
    legs: tuple[Leg, ...] = ()

    @property
    def answered_by(self) -> str:
        """Who took the last leg of which that is known; empty where it is not."""
        known = [leg.answered_by for leg in self.legs if leg.answered_by not in ("", "na", "unknown")]
        return known[-1] if known else ""


def read_callback(content_type: str, body: bytes) -> StatusCallback:
    """Read one callback. Raises: ``BadField``, ``BadJson``, and nothing else for any bytes."""
    fields = read_fields(content_type, body)
    return StatusCallback(
        checked_call_id(one(fields, "CallSid")),
        word(one(fields, "EventType") or _DEFAULT_EVENT),
        word(one(fields, "Status", "CallStatus")),
        _seconds(one(fields, "ConversationDuration")),
        tuple(_legs(fields)),
    )


def _legs(fields: Fields) -> list[Leg]:
    legs = []
    for number in range(_LEGS_MAX_COUNT):
        status, seconds, by = (
            one(fields, f"Legs[{number}][{name}]") for name in ("Status", "OnCallDuration", "AnsweredBy")
        )
        if status or seconds or by:
            legs.append(Leg(word(status), _seconds(seconds), word(by, "")))
    return legs


def _seconds(text: str) -> int | None:
    is_number = text.isascii() and text.isdigit() and len(text) <= _DURATION_MAX_DIGITS
    return int(text) if is_number else None
