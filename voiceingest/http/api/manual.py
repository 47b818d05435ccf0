"""The reference page of the REST API, written from the OpenAPI documents. Pure.

``python -m voiceingest.reference`` writes it; a test fails when it is stale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from .app import operator_app, public_app
from .outline import Operation, Outcome, Row, operations
from .rates import RATES

_HEAD: Final = """# REST API: devices, tokens, sessions

This page is written from the code: `python -m voiceingest.reference`. The daemon shows the same at `/docs`,
and for programs at `/openapi.json`. Step by step: [how-to/sessions.md](../how-to/sessions.md).

Bodies are JSON (`Content-Type: application/json`), at most 64 KiB. Times are RFC 3339 in UTC. Each answer
carries `X-Request-Id`. A refusal is `{"code", "message", "request_id"}`, with `bad_field` often `"fields"`
too: the names of what is wrong. The codes are those of [errors.md](errors.md). A 401 carries
`WWW-Authenticate`, a 429 and a 503 `Retry-After`. `HEAD` follows from `GET`, `OPTIONS` names the methods.
Pages may ask from `ALLOWED_ORIGINS` only.

## Requests a minute

Counted in a moving window of a minute, for each user and for each address (of IPv6: each /64); multiplied by
`API_RATE_FACTOR`. What is left is in `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` of every
answer: of the two limits the one that is nearer.

| route | a user | an address |
|---|---|---|
"""
_OPERATORS: Final = """
# For operators

On the admin site without a token, on the public site for the admin token. There are no limits a minute.
"""
# What every operation may be refused with is said once.
_COMMON: Final = frozenset({"403", "429", "500", "503"})
_COMMON_TEXT: Final = (
    "Every operation may also be refused with 403 `origin_refused`, 429 `too_many_requests`, "
    "`too_many_from_address`,\n500 `internal`, 503 `store_unavailable`, `draining`, `too_many_connections`.\n"
)


def page() -> str:
    """The whole page."""
    rates = "".join(
        f"| `{route}` | {rate.per_user if _has_user(route) else ''} | {rate.per_address} |\n"
        for route, rate in RATES.items()
    )
    public, operators = public_app().state.document, operator_app().state.document
    return "".join((_HEAD, rates, "\n", _COMMON_TEXT, *_sections(public), _OPERATORS, *_sections(operators)))


def _has_user(route: str) -> bool:
    return not route.endswith(("/register", "/refresh"))


def _sections(document: Mapping[str, Any]) -> Iterator[str]:
    for operation in operations(document):
        yield from _operation(operation)


def _operation(found: Operation) -> Iterator[str]:
    yield f"\n## {found.method} {found.path}\n\n{found.title}."
    yield " With an access token.\n" if found.token == "bearer" else "\n"
    yield f"\n{found.text}\n" if found.text else ""
    yield from _table("parameter", found.parameters)
    yield from _table("member of the body", found.body)
    yield f"\n```json\n{found.body_example}\n```\n" if found.body_example else ""
    for outcome in found.outcomes:
        if not outcome.codes:
            yield from _answer(outcome)
    refusals = [outcome for outcome in found.outcomes if outcome.codes and outcome.status not in _COMMON]
    special = [outcome for outcome in found.outcomes if outcome.status == "403" and len(outcome.codes) > 1]
    if refusals or special:
        yield "\n| refused with | codes |\n|---|---|\n"
    for outcome in sorted([*refusals, *special], key=lambda one: one.status):
        codes = ", ".join(f"`{code}`" for code in outcome.codes)
        yield f"| {outcome.status} | {codes} |\n"


def _answer(outcome: Outcome) -> Iterator[str]:
    yield f"\n**{outcome.status}** {outcome.text}\n"
    yield from _table("member", outcome.rows)
    yield f"\n```json\n{outcome.example}\n```\n"


def _table(head: str, rows: tuple[Row, ...]) -> Iterator[str]:
    if not rows:
        return
    yield f"\n| {head} | type | what it is |\n|---|---|---|\n"
    for row in rows:
        must = "" if row.required or head == "member" else " (optional)"
        yield f"| `{row.name}`{must} | {row.type} | {row.text} |\n"
