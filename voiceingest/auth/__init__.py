"""Authentication: bearer tokens, the keys they are verified with, tickets for browsers.

Pure: ``bearer`` finds the one credential of a request, ``keys`` holds what is loaded, ``tokens``
verifies one token, ``refusal`` names why not. With time: ``tickets``, and ``calls``, who checks what
Exotel brings. With files or network:
``pinned`` (one PEM key), ``jwks`` and ``jwks_http`` (a key set that is kept fresh).
``authenticator`` puts them together behind ``interfaces.IAuthenticator``. Tokens of devices, which we
sign ourselves: ``device_keys``, ``device_tokens``; ``either`` asks whoever issued a token. ``envelope``
is what all of them have in common.

Floor 5: ``transports``, ``http``, ``service`` and ``cli`` may import it; it imports ``errors``,
``limits``, ``config``, ``interfaces``, ``device_interfaces``, ``aio`` and, for types, ``metrics``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.web.iweb import IPolicyForHTTPS

from ..config import Settings
from .authenticator import JwtAuthenticator
from .jwks import JwksSource
from .jwks_http import JwksEndpoint
from .pinned import PinnedKeys
from .tokens import Rules

if TYPE_CHECKING:
    from ..metrics import Metrics

__all__ = ["JwtAuthenticator", "make_authenticator"]


def make_authenticator(
    settings: Settings,
    reactor: Any,
    wall_clock: Callable[[], float],
    metrics: Metrics,
    policy: IPolicyForHTTPS | None = None,
    read_settings: Callable[[], Settings] | None = None,
) -> JwtAuthenticator:
    """Make the authenticator the settings ask for; without any key it refuses everybody.

    ``wall_clock`` returns seconds since the epoch; ``policy`` replaces the platform's trust for
    the key set's endpoint; ``read_settings`` reads the settings again, for a key that stands in them.
    Raises: ``BadKey``, ``SettingsError``.
    """
    rules = Rules.from_settings(settings)
    source = (
        _pinned(settings, rules, read_settings)
        if settings.jwt_jwks_url is None
        else _key_set(settings.jwt_jwks_url, settings, rules, reactor, metrics, policy)
    )
    return JwtAuthenticator(source, rules, wall_clock, metrics)


def _key_set(
    url: str,
    settings: Settings,
    rules: Rules,
    reactor: Any,
    metrics: Metrics,
    policy: IPolicyForHTTPS | None,
) -> JwksSource:
    return JwksSource(
        JwksEndpoint(url, reactor, settings.jwt_jwks_timeout_s, policy).fetch,
        rules.algorithms,
        reactor,
        metrics,
        max_age_s=settings.jwt_jwks_max_age_s,
        cooldown_s=settings.jwt_jwks_cooldown_s,
    )


def _pinned(
    settings: Settings, rules: Rules, read_settings: Callable[[], Settings] | None
) -> PinnedKeys:
    def read_pem() -> str | None:
        return _pem(read_settings()) if read_settings is not None else _pem(settings)

    path = settings.jwt_public_key_file
    return PinnedKeys(rules.algorithms, _pem(settings), path, None if path else read_pem)


def _pem(settings: Settings) -> str | None:
    pem = settings.jwt_public_key
    return None if pem is None else pem.get_secret_value()
