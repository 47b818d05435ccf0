"""Who may be connected at once: a total and a share for each address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from .errors import Overloaded, TooManyFromAddress, VoiceIngestError

# Sockets over the cap are still read as far as their head, so that they can be told 503 with
# Retry-After; past this share of the cap they are cut without a word.
_COURTESY = 0.25


@lru_cache(maxsize=1024)
def plain_address(text: str) -> IPv4Address | IPv6Address:
    """An address; one of IPv4 that a dual-stack socket shows as IPv6 (RFC 4291 section 2.5.5.2) as IPv4.

    Raises: ``ValueError``.
    """
    address = ip_address(text)
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


@lru_cache(maxsize=1024)
def plain_text(text: str) -> str:
    """A :func:`plain_address` as it is written. Raises: ``ValueError``."""
    return str(plain_address(text))


class Gate:
    """Counts connections. 0 means no limit, as in the settings."""

    def __init__(self, max_total: int, max_per_address: int, trusted_proxies: Sequence[str] = ()) -> None:
        self._max_total = max_total
        self._max_per_address = max_per_address
        self._proxies: list[IPv4Network | IPv6Network] = [
            ip_network(name, strict=False) for name in trusted_proxies
        ]
        self._by_address: Counter[str] = Counter()
        # Those beyond the share of their address: they are about to be refused and take nobody's place.
        self._over = 0
        self.total = 0

    def enter(self, address: str) -> VoiceIngestError | None:
        """Count one connection in; returns what it is to be told when there is no room.

        Each ``enter`` is followed by one ``leave``, whatever it returned.
        """
        self._count_in(address)
        if self._max_total and self.total - self._over > self._max_total:
            return Overloaded()
        return TooManyFromAddress() if self._is_over(address) else None

    def leave(self, address: str) -> None:
        """Count one connection out."""
        if self._is_over(address):
            self._over -= 1
        self.total -= 1
        self._by_address[address] -= 1
        if self._by_address[address] <= 0:
            del self._by_address[address]

    def move(self, before: str, after: str) -> VoiceIngestError | None:
        """A proxy has told whose connection it is: count it there; it has its place already.

        Returns what it is to be told when its address has more than its share.
        """
        self.leave(before)
        self._count_in(after)
        return TooManyFromAddress() if self._is_over(after) else None

    def _count_in(self, address: str) -> None:
        self.total += 1
        self._by_address[address] += 1
        if self._is_over(address):
            self._over += 1

    def _is_over(self, address: str) -> bool:
        most = self._max_per_address
        return bool(most) and self._by_address[address] > most and not self.is_proxy(address)

    @property
    def flooded(self) -> bool:
        """Whether there are so many connections that not even a refusal is owed."""
        return bool(self._max_total) and self.total > self._max_total * (1 + _COURTESY) + 8

    def is_proxy(self, address: str) -> bool:
        """Whether ``X-Forwarded-For`` is believed from this address."""
        if not self._proxies:
            return False
        try:
            parsed = plain_address(address)
        except ValueError:
            # A Unix socket has no address: only a proxy on this machine can be behind it.
            return address == "unix"
        return any(parsed in network for network in self._proxies)

    def client_address(self, peer: str, forwarded_for: Sequence[str]) -> str:
        """The caller's address: the last one in ``X-Forwarded-For`` that no proxy of ours wrote."""
        address = peer
        hops = [hop.strip() for line in forwarded_for for hop in line.split(",")]
        while hops and self.is_proxy(address):
            try:
                address = plain_text(hops.pop())
            except ValueError:
                break
        return address
