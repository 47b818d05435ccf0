"""What the URL of a call says of it, and which sample rate holds when two places name one.

The query is what we ourselves wrote into the URL (and what people write into the applet): it is a
help where the ``start`` is not complete. Source: protocols.md sections 1.4 (the rate) and 1.8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .exotel import EXOTEL_RATES, Start, whole_number
from .fields import is_identifier

_CALL_ID: Final = ("call_id", "callId", "callSid", "CallSid", "callLogId", "call_sid")
_STREAM_SID: Final = ("stream_sid", "streamSid")
_DEFAULT_RATE: Final = 8000


@dataclass(frozen=True, slots=True)
class CallQuery:
    """The query of the upgrade request; ``""`` and 0 stand for what is missing or not usable."""

    call_id: str
    stream_sid: str
    sample_rate: int
    ticket: str


def read_query(args: Mapping[str, Sequence[str]]) -> CallQuery:
    """Read the query, whoever wrote it: nothing in it is an error."""
    return CallQuery(_name(args, *_CALL_ID), _name(args, *_STREAM_SID), _rate(args), _name(args, "ticket"))


def resolve_rate(start: Start, query: CallQuery) -> tuple[int, bool]:
    """The sample rate of a call, and whether ``start`` and URL disagree: one is wrong."""
    rate = start.sample_rate or query.sample_rate or _DEFAULT_RATE
    return rate, query.sample_rate not in (0, rate)


def _name(args: Mapping[str, Sequence[str]], *keys: str) -> str:
    return next((value for key in keys for value in args.get(key, ()) if is_identifier(value)), "")


def _rate(args: Mapping[str, Sequence[str]]) -> int:
    # The hyphen is the documented spelling; Exotel's own server reads it first too.
    said = (whole_number(value) for key in ("sample-rate", "sample_rate") for value in args.get(key, ()))
    return next((rate for rate in said if rate in EXOTEL_RATES), 0)
