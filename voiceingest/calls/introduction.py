"""Who a call is, by all that speaks of it: its credential, its ``start``, its URL, the settings. Pure.

Exotel's metadata was not always complete in production (``protocols.md`` section 1.8), so each fact has
several places; where two disagree the first one holds, and the disagreement is counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..interfaces import Claims
from ..wire.exotel import Start
from ..wire.exotel_query import CallQuery, resolve_rate
from ..wire.fields import is_identifier

# A custom parameter that names the tenant; Exotel hands on three pairs of the applet's URL.
TENANT_PARAMETERS: Final = ("tenant_id", "tenantId", "tenant")


@dataclass(frozen=True, slots=True)
class Introduction:
    """Who a call is. ``mismatches``: about what two places disagree."""

    call_id: str
    stream_sid: str
    tenant_id: str
    sample_rate: int
    mismatches: tuple[str, ...] = ()


def introduce(
    start: Start, query: CallQuery, claims: Claims, tenant_id: str, fallback_id: str
) -> Introduction:
    """Decide. ``tenant_id`` and ``fallback_id`` are for a call of which nothing else is known."""
    mismatches = []
    sample_rate, disagree = resolve_rate(start, query)
    if disagree:
        mismatches.append("sample_rate")
    # The ticket was made for one call, the URL by whoever configured the applet.
    ids = [name for name in (claims.interaction_id, start.call_id, query.call_id) if name]
    if len(set(ids)) > 1:
        mismatches.append("call_id")
    stream_sid = start.stream_sid or query.stream_sid
    named = _named_tenant(start)
    if named and claims.tenant_id and named != claims.tenant_id:
        mismatches.append("tenant_id")
    return Introduction(
        (ids or [stream_sid or fallback_id])[0],
        stream_sid,
        claims.tenant_id or named or tenant_id,
        sample_rate,
        tuple(mismatches),
    )


def _named_tenant(start: Start) -> str:
    said = (start.parameters.get(name) for name in TENANT_PARAMETERS)
    return next((name for name in said if name is not None and is_identifier(name)), "")
