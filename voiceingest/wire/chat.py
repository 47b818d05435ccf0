"""Chat completions as OpenAI's API has them and many others speak them too; streamed.

A request is one JSON object; the answer a stream of server-sent events, each ``data:`` one JSON chunk, the
last ``[DONE]``. Sources: platform.openai.com/docs/api-reference/chat-streaming and the WHATWG's
html.spec.whatwg.org/multipage/server-sent-events.html (read 2026-11-28). Dialects found besides:
``choices`` empty or null (usage chunks), ``content`` null (roles, tool calls), an ``error`` object in
the middle of a stream, no ``[DONE]`` after a ``finish_reason``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from ..errors import BadField, BadJson, UpstreamFailed

DONE: Final = "[DONE]"

_FAILED: Final = "the model has failed in the middle of its answer"


class Delta(NamedTuple):
    """What one chunk adds to the answer; ``is_last``: the model has finished."""

    text: str = ""
    is_last: bool = False


def request_body(model: str, messages: Sequence[Mapping[str, str]], max_tokens: int) -> bytes:
    """Ask for an answer, streamed."""
    wish = {"model": model, "messages": list(messages), "max_tokens": max_tokens, "stream": True}
    return json.dumps(wish, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def decode(text: str) -> Delta:
    """Read one chunk, the ``data`` of one event.

    Raises: ``BadJson``, ``BadField``, and ``UpstreamFailed`` for an error of the model; nothing else
    escapes, whatever the text is.
    """
    if text.strip() == DONE:
        return Delta(is_last=True)
    try:
        chunk = json.loads(text)
    except (ValueError, RecursionError):
        raise BadJson from None
    if not isinstance(chunk, dict):
        raise BadJson
    if chunk.get("error"):
        raise UpstreamFailed(_FAILED)
    choices = chunk.get("choices") or []
    if not isinstance(choices, list):
        raise BadField("choices is not a list")
    if not choices:
        return Delta()
    return _choice(choices[0])


def _choice(choice: Any) -> Delta:
    if not isinstance(choice, dict):
        raise BadField("a choice is not an object")
    delta = choice.get("delta") or {}
    if not isinstance(delta, dict):
        raise BadField("delta is not an object")
    content = delta.get("content") or ""
    if not isinstance(content, str):
        raise BadField("content is not text")
    # Half of a surrogate pair cannot be encoded again.
    text = content.encode("utf-8", "replace").decode()
    return Delta(text, bool(choice.get("finish_reason")))
