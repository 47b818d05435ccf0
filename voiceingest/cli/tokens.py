"""``voiceingest token``: mint one with a private key, or find out why one is refused."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..config import Settings
from .console import Console, printable
from .failures import ConnectionFailed, Exit, UsageFailed
from .minting import RESERVED_CLAIMS, BadPrivateKey, Signer, TokenRequest, claims_of, load_signer
from .minting import mint as sign
from .options import duration, epilog, json_option

if TYPE_CHECKING:
    from ..auth.keys import KeySet
    from .verdicts import Verdict

# An RSA key of 16384 bits is 13 KB in PEM; a device in its place would never end.
KEY_MAX_BYTES = 64 * 1024

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")


def read_signer(path: Path) -> Signer:
    """The private key in a file. Raises: ``UsageFailed``."""
    try:
        with path.open("rb") as file:
            return load_signer(file.read(KEY_MAX_BYTES))
    except OSError as problem:
        raise UsageFailed(f"{path} cannot be read: {problem.strerror}") from problem
    except BadPrivateKey as problem:
        raise UsageFailed(
            f"{path} cannot sign: {problem}", hint="voiceingest keygen makes a pair"
        ) from problem


def parse_claims(given: Iterable[str]) -> dict[str, Any]:
    """``name=value`` pairs; a value that is JSON is taken as that, any other as text."""
    claims: dict[str, Any] = {}
    for pair in given:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageFailed(f"--claim takes name=value, not {printable(pair)!r}")
        if name in RESERVED_CLAIMS:
            raise UsageFailed(f"--claim cannot set {name}", hint="--lifetime sets how long the token lives")
        try:
            claims[name] = json.loads(value)
        except ValueError:
            claims[name] = value
    return claims


@click.group()
def token() -> None:
    """Mint tokens, or find out why one is refused."""


@token.command(
    "mint",
    epilog=epilog(
        """voiceingest token mint --key private.pem --tenant acme
export JWT_TOKEN=$(voiceingest token mint --key private.pem --tenant acme --lifetime 15m)
voiceingest token mint --key private.pem --tenant acme --interaction call-7 --claim role=agent""",
        Exit.OK,
        Exit.USAGE,
    ),
)
@click.option(
    "--key",
    "key_path",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Private key in PEM.",
)
@click.option("--tenant", required=True, help="Claim tenant_id: whose streams it is for.")
@click.option("--interaction", help="Claim interaction_id: the one stream it is for.")
@click.option("--sub", "subject", help="Claim sub: who bears it.")
@click.option(
    "--lifetime",
    default="1h",
    show_default=True,
    callback=duration,
    metavar="TIME",
    help="30s, 15m, 1h, 7d, ...",
)
@click.option("--issuer", help="Claim iss.")
@click.option("--audience", help="Claim aud.")
@click.option("--kid", help="Name of the key, in the header; a key set needs it.")
@click.option(
    "--claim", "claims", multiple=True, metavar="NAME=VALUE", help="Any other claim; may be repeated."
)
@json_option
def mint(key_path: Path, lifetime: float, claims: tuple[str, ...], json_output: bool, **named: str) -> None:
    """Sign a token. Standard output carries the token and nothing else.

    The algorithm follows from the key: RS256, ES256, ES384 or EdDSA. The daemon accepts RS256 unless
    JWT_ALGORITHMS says more.
    """
    request = TokenRequest(
        tenant_id=named["tenant"],
        interaction_id=named["interaction"],
        subject=named["subject"],
        lifetime_s=lifetime,
        issuer=named["issuer"],
        audience=named["audience"],
        kid=named["kid"],
        extra=parse_claims(claims),
    )
    now = time.time()
    minted = sign(read_signer(key_path), request, now)
    console = Console(json_output=json_output)
    if json_output:
        console.document({"token": minted, "claims": claims_of(request, now)})
    else:
        console.data(minted)


@token.command(
    epilog=epilog(
        """voiceingest token check "$JWT_TOKEN" --key public.pem
voiceingest token mint ... | voiceingest token check - --key public.pem
voiceingest token check - --jwks-url https://id.example.com/jwks.json < token.txt
voiceingest token check - --config /etc/voiceingest.toml < token.txt""",
        Exit.OK,
        Exit.REFUSED,
        Exit.USAGE,
        Exit.NO_CONNECTION,
    )
)
@click.argument("value", metavar="TOKEN|-")
@click.option("--key", "key_path", type=click.Path(dir_okay=False, path_type=Path), help="Public key in PEM.")
@click.option("--jwks-url", help="Address of a JSON Web Key Set.")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Settings file of the daemon to check as it does.",
)
@click.option("--issuer", help="What iss must be.")
@click.option("--audience", help="What aud must hold.")
@json_option
def check(
    value: str,
    key_path: Path | None,
    jwks_url: str | None,
    config: Path | None,
    issuer: str | None,
    audience: str | None,
    json_output: bool,
) -> None:
    """Say whether a token is valid, why not, what it claims, and how long it still lives.

    The rules are the daemon's own, and so is the key unless --key or --jwks-url names another: it is
    taken from the environment and the settings file, as the daemon would.
    """
    from ..auth.tokens import Rules
    from .verdicts import judge

    text = sys.stdin.read(64 * 1024).strip() if value == "-" else value.strip()
    if key_path is not None and jwks_url is not None:
        raise UsageFailed("--key and --jwks-url exclude each other")
    explicit = key_path is not None or jwks_url is not None
    settings = _settings(config, explicit, issuer, audience)
    # The key says which algorithms it is for; settings that are not about this key do not.
    algorithms = ALGORITHMS if explicit else settings.jwt_algorithms
    keys = _keys(settings, explicit, algorithms, key_path, jwks_url)
    now = time.time()
    verdict = judge(text, keys, replace(Rules.from_settings(settings), algorithms=frozenset(algorithms)), now)
    _report(Console(json_output=json_output), verdict, now)
    if not verdict.valid:
        sys.exit(Exit.REFUSED)


def _settings(config: Path | None, explicit: bool, issuer: str | None, audience: str | None) -> Settings:
    """The daemon's settings, the options put over them. Raises: ``SettingsError``."""
    from ..config.load import load_settings

    # A key that was named is enough: what else is in the environment is not asked for.
    environ = {} if explicit else dict(os.environ)
    return load_settings({"jwt_issuer": issuer, "jwt_audience": audience}, environ, config)


def _keys(
    settings: Settings,
    explicit: bool,
    algorithms: tuple[str, ...],
    key_path: Path | None,
    jwks_url: str | None,
) -> KeySet | None:
    """The keys to verify with, fetched when they are at an address.

    Raises: ``UsageFailed``, ``ConnectionFailed``.
    """
    from ..auth.pinned import PinnedKeys
    from ..errors import BadKey

    url = jwks_url if explicit else settings.jwt_jwks_url
    try:
        if url:
            return _fetched(url, settings.jwt_jwks_timeout_s, algorithms)
        if explicit:
            return PinnedKeys(algorithms, None, key_path).keys
        inline = settings.jwt_public_key.get_secret_value() if settings.jwt_public_key else None
        return PinnedKeys(algorithms, inline, settings.jwt_public_key_file).keys
    except BadKey as problem:
        raise UsageFailed(problem.message) from problem


def _fetched(url: str, timeout_s: float, algorithms: tuple[str, ...]) -> KeySet:
    from ..auth.jwks_http import checked_host
    from .running import run

    checked_host(url)

    async def fetch(reactor: Any, interrupt: Any) -> bytes:
        from ..auth.jwks_http import FetchFailed, JwksEndpoint

        request = JwksEndpoint(url, reactor, timeout_s).fetch()
        interrupt.when().addCallback(lambda _: request.cancel())
        try:
            return await request
        except FetchFailed as problem:
            text = f"the key set cannot be fetched: {problem.result} {problem.detail}".rstrip()
            raise ConnectionFailed(text, reason=problem.result) from problem

    from ..auth.keys import from_jwks

    return from_jwks(run(fetch), algorithms)


def _report(console: Console, verdict: Verdict, now: float) -> None:
    from .verdicts import in_words

    remaining = verdict.remaining_s(now)
    console.document(
        {
            "valid": verdict.valid,
            "reason": verdict.reason,
            "why": verdict.why or None,
            "header": verdict.header,
            "claims": verdict.claims,
            "expires_in_s": None if remaining is None else round(remaining),
        }
    )
    if verdict.valid:
        console.say("valid", style="bold green")
    else:
        console.say(f"invalid: {verdict.why} ({verdict.reason})", style="bold red")
    rows = {"header": printable(json.dumps(verdict.header))} if verdict.header else {}
    rows |= {printable(name): printable(json.dumps(value)) for name, value in verdict.claims.items()}
    if remaining is not None:
        when = datetime.fromtimestamp(now + remaining, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        rows["expires"] = (
            f"in {in_words(remaining)}, {when}" if remaining > 0 else f"{in_words(remaining)} ago, {when}"
        )
    console.pairs(rows)
