"""Take out of a text what must never be written down.

The daemon does not log secrets. This is for texts it did not write: messages of libraries,
exceptions, and whatever a later change forgets. It rather takes too much than too little.
Peers choose some of these texts, so every pattern is linear: nothing before a match is unbounded.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

MASK: Final = "[redacted]"

# What is looked at; a secret cut in two at this mark is cut away with its whole word.
TEXT_MAX_CHARS: Final = 16 * 1024

# Texts that were looked at and hold nothing: the names of events and what they say are the same few, again
# and again, and ten patterns over each were a fifth of a handshake. Forgotten all at once when full.
CLEAN_MAX_COUNT: Final = 512
CLEAN_MAX_CHARS: Final = 128
_clean: Final[set[str]] = set()

_SECRET_WORD: Final = r"(?:token|secret|passwd|password|ticket|credential|authorization|cookie|api[_-]?key)"

_RULES: Final = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), replacement)
    for pattern, replacement in (
        # First, or another rule could take the scheme away from its credential.
        # Bearer credentials, also as the subprotocol bearer.<token>; "bearer token" is prose, and
        # of a scheme said twice the second one is no credential. The characters: RFC 6750 section 2.1.
        (
            r"\b(bearer|basic)[\s.]{1,8}(?!tokens?(?:[\s.,;:!?)]|\Z)|(?:bearer|basic)[\s.])[A-Za-z0-9._~+/=-]+",
            rf"\1 {MASK}",
        ),
        # PEM blocks, also with literal \n, also without their end.
        (r"-----BEGIN [A-Z0-9 ]{1,40}-----.*?(?:-----END [A-Z0-9 ]{1,40}-----|\Z)", "[pem]"),
        # Header lines that carry credentials, also as items of a printed dictionary.
        (
            r"\b(authorization|cookie|set-cookie|x-api-key|sec-websocket-protocol)\b['\"]?\s{0,8}[:=][^\r\n]*",
            rf"\1: {MASK}",
        ),
        # user:password@ of URLs; up to the last @, since passwords are not always quoted.
        (r"://[^\s'\"<>?#]{0,1024}@", f"://{MASK}@"),
        # Query strings, of URLs and of bare paths.
        (r"(?<=[^\s?])\?[^\s'\"<>]+", f"?{MASK}"),
        # JSON Web Tokens: every one begins with base64 of '{"'.
        (r"eyJ[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)*", MASK),
        # name=value and "name": "value".
        (rf"({_SECRET_WORD}['\"]?\s{{0,8}}=\s{{0,8}}['\"]?)[^\s'\",;&)}}]+", rf"\1{MASK}"),
        (rf"({_SECRET_WORD}['\"]\s{{0,8}}:\s{{0,8}}b?)(?:'[^']*'?|\"[^\"]*\"?)", rf'\1"{MASK}"'),
        # Telephone numbers: E.164, also spaced, and any long run of digits.
        (r"\+[0-9](?:[ ().-]{0,2}[0-9]){6,}", "[number]"),
        (r"[0-9]{10,}", "[number]"),
    )
)

_NUMBER_ALONE: Final = re.compile(r"(?<![0-9a-fA-F])[0-9]{10,15}(?![0-9a-fA-F])")
_SECRET_NAME: Final = re.compile(rf"{_SECRET_WORD}s?$|^(?:audio|payload|jwt|pem)$", re.IGNORECASE)


def redact(text: str) -> str:
    """Return ``text`` without secrets, cut to ``TEXT_MAX_CHARS``."""
    if text in _clean:
        return text
    if len(text) > TEXT_MAX_CHARS:
        whole, *cut = text[:TEXT_MAX_CHARS].rsplit(None, 1) or ("", "")
        text = whole if cut else MASK
    redacted = text
    for pattern, replacement in _RULES:
        redacted = pattern.sub(replacement, redacted)
    if redacted == text and len(text) <= CLEAN_MAX_CHARS:
        if len(_clean) >= CLEAN_MAX_COUNT:
            _clean.clear()
        _clean.add(text)
    return redacted


def redact_id(text: str) -> str:
    """Return a correlation id, unless it is somebody's number; hexadecimal ids stay whole."""
    return _NUMBER_ALONE.sub("[number]", text)


@lru_cache(maxsize=512)
def is_secret_name(name: str) -> bool:
    """Whether a field called ``name`` holds what must not be shown, whatever it looks like."""
    return _SECRET_NAME.search(name) is not None
