"""Where Exotel reaches this daemon: the base of every URL that is given out, and the socket's URL.

The base is ``webhook_base_url``, else ``render_external_url``, else the host the webhook itself was
asked at. Of the request nothing but its ``Host`` is believed, and only what a host may look like:
``X-Forwarded-Host`` and ``-Proto`` are never read. The scheme is secure, except for a host on the
loopback interface asked in the clear from there: a proxy on this machine speaks to the daemon in
the clear as well, but under its public name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from typing import Final
from urllib.parse import quote, urlsplit

from ..config import Settings
from ..errors import HttpRefusal

# RFC 9110 section 7.2, for the hosts there are: a name or an address, and a port.
_HOST: Final = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
)
_PLAIN: Final = frozenset({"http", "ws"})


def configured_base(settings: Settings) -> str | None:
    """The base URL that was set, if one was."""
    base = settings.webhook_base_url or settings.render_external_url
    return base.rstrip("/") if base else None


def requested_base(hosts: Sequence[str], *, is_plain: bool, from_loopback: bool) -> str:
    """The base URL by a request: all values of its ``Host``, whether it came in the clear, and whence.

    Raises: ``HttpRefusal``.
    """
    if len(hosts) != 1 or not _is_host(hosts[0]):
        raise HttpRefusal("Host is missing or malformed")
    in_clear = is_plain and from_loopback and _is_loopback(hosts[0])
    return f"{'http' if in_clear else 'https'}://{hosts[0]}"


def socket_url(
    base: str, ws_path: str, call_id: str | None, sample_rate: int, ticket: str | None
) -> str:
    """The URL Exotel is to connect to; it comes back whole at the upgrade.

    Its query may have three pairs and 256 characters (protocol reference section 1.6).
    """
    parts = urlsplit(base)
    scheme = "ws" if parts.scheme in _PLAIN and _is_loopback(parts.netloc) else "wss"
    named = {"call_id": call_id, "sample-rate": str(sample_rate), "ticket": ticket}
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in named.items() if value)
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/')}{ws_path}?{query}"


def is_loopback_address(address: str) -> bool:
    """Whether an address, or a Unix socket, is of this machine."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address == "unix"


def _is_host(text: str) -> bool:
    if not _HOST.fullmatch(text):
        return False
    try:
        # Brackets around what is no address, ports there are not.
        if text.startswith("["):
            IPv6Address(text[1 : text.index("]")])
        return urlsplit(f"//{text}").port != 0
    except ValueError:
        return False


def _is_loopback(netloc: str) -> bool:
    host = urlsplit(f"//{netloc}").hostname or ""
    return host == "localhost" or (host != "unix" and is_loopback_address(host))
