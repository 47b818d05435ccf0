"""The page at ``/docs``: HTML made from the OpenAPI document. No script, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Any, Final

from .outline import Operation, Row, operations

_STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--soft:#8881;--mark:#0969da}
*{box-sizing:border-box}
body{font:16px/1.55 system-ui,sans-serif;margin:0 auto;max-width:54rem;padding:1rem}
h1{margin:.5rem 0}h2{margin:2.5rem 0 .5rem}
code,pre{font:.875em/1.5 ui-monospace,monospace}
pre{background:var(--soft);border-radius:6px;overflow-x:auto;padding:.75rem}
details{border:1px solid var(--line);border-radius:8px;margin:.6rem 0;padding:0 1rem}
summary{cursor:pointer;margin:0 -1rem;overflow-wrap:anywhere;padding:.7rem 1rem}
details[open]{padding-bottom:.5rem}
.method{color:var(--mark);display:inline-block;font-weight:700;min-width:4.5em}
.title{display:block;opacity:.75}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.94em;width:100%}
th,td{border-top:1px solid var(--line);padding:.35rem .6rem .35rem 0;text-align:left;vertical-align:top}
th{font-weight:600}
a{color:var(--mark)}
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

PAGE_HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

_CODE: Final = re.compile(r"`([^`]+)`")


def html_page(document: Mapping[str, Any]) -> str:
    """The whole page."""
    info = document["info"]
    return "".join(
        (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>{escape(info['title'])} API</title><style>{_STYLE}</style></head><body>",
            f"<h1>{escape(info['title'])} API</h1>",
            f"<p>{_prose(info['description'])} Version {escape(info['version'])}. ",
            'The same for programs: <a href="/openapi.json">openapi.json</a>.</p>',
            *_sections(document),
            "</body></html>\n",
        )
    )


def _sections(document: Mapping[str, Any]) -> Iterator[str]:
    tag = ""
    for operation in operations(document):
        if operation.tag != tag:
            tag = operation.tag
            yield f"<h2>{escape(tag)}</h2>"
        yield from _operation(operation)


def _operation(found: Operation) -> Iterator[str]:
    yield f'<details id="{escape(found.operation_id)}"><summary><span class="method">{found.method}</span>'
    yield f'<code>{escape(found.path)}</code><span class="title">{escape(found.title)}</span></summary>'
    yield from (f"<p>{_prose(paragraph)}</p>" for paragraph in found.text.split("\n\n") if paragraph)
    yield "<p>With an access token.</p>" if found.token == "bearer" else ""
    yield from _table("Parameters", found.parameters)
    yield from _table("Body", found.body)
    yield f"<pre>{escape(found.body_example)}</pre>" if found.body_example else ""
    for outcome in found.outcomes:
        if outcome.codes:
            continue
        yield from _table(f"Answer {outcome.status}: {outcome.text}", outcome.rows)
        yield f"<pre>{escape(outcome.example)}</pre>"
    refusals = [outcome for outcome in found.outcomes if outcome.codes]
    yield '<h4>Refusals</h4><div class="wide"><table>'
    for outcome in refusals:
        codes = ", ".join(f"<code>{escape(code)}</code>" for code in outcome.codes)
        yield f"<tr><th>{outcome.status}</th><td>{codes}</td></tr>"
    yield "</table></div></details>"


def _table(title: str, rows: Iterable[Row]) -> Iterator[str]:
    found = list(rows)
    if not found:
        return
    yield f'<h4>{escape(title)}</h4><div class="wide"><table>'
    for row in found:
        must = "" if row.required else " (optional)"
        yield f"<tr><td><code>{escape(row.name)}</code>{must}</td><td>{escape(row.type)}</td>"
        yield f"<td>{_prose(row.text)}</td></tr>"
    yield "</table></div>"


def _prose(text: str) -> str:
    return _CODE.sub(r"<code>\1</code>", escape(text))
