"""The settings of devices, tokens and sessions: a part of ``settings``, in a file of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal, get_args

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from .fields import field, secret

# The forms of ``database_url``; with their drivers spelled out they are SQLAlchemy's business.
DatabaseScheme = Literal["sqlite", "postgresql", "postgres"]

_DURATION: Final = re.compile(r"([0-9]{1,9})(s|m|h|d|w)?")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_YEAR_S: Final = 366 * 86400


def duration_s(text: str) -> float | None:
    """Seconds of ``7d``, ``12h``, ``30m``, ``90s`` or ``90``; ``None`` where it is none of them."""
    found = _DURATION.fullmatch(text)
    return None if found is None else float(int(found[1]) * _SECONDS[found[2] or "s"])


class ControlSettings(BaseModel):
    """Who may have sessions, what is kept of them, and where."""

    # --- devices
    control: Literal["auto", "on", "off"] = field("auto", "Devices and sessions", "The API for devices and sessions. `auto`: it is there when there is a key for its tokens (`jwt_secret` or `jwt_private_key`). `on`: without one the start is refused. `off`: it is not there.")
    jwt_secret: SecretStr | None = secret("Devices and sessions", "Secret of at least 32 bytes that the tokens of devices are signed with (HS256). Read again on SIGHUP.")
    jwt_secret_file: Path | None = field(None, "Devices and sessions", "File that holds `jwt_secret`.")
    jwt_secret_previous: SecretStr | None = secret("Devices and sessions", "The secret before, which still verifies: for a rotation without a gap.")
    jwt_secret_previous_file: Path | None = field(None, "Devices and sessions", "File that holds `jwt_secret_previous`.")
    jwt_private_key: SecretStr | None = secret("Devices and sessions", "PEM private key that the tokens of devices are signed with (RS256); a `jwt_secret` beside it then only verifies. Read again on SIGHUP.")
    jwt_private_key_file: Path | None = field(None, "Devices and sessions", "File that holds `jwt_private_key`.")
    jwt_private_key_previous: SecretStr | None = secret("Devices and sessions", "The private key before, which still verifies.")
    jwt_private_key_previous_file: Path | None = field(None, "Devices and sessions", "File that holds `jwt_private_key_previous`.")
    jwt_expires_in: str = field("7d", "Devices and sessions", "Life of a device's access token: `90s`, `30m`, `12h`, `7d`.")
    refresh_token_expires_in: str = field("30d", "Devices and sessions", "Life of a refresh token, from when it was given out.")
    registration: Literal["on", "off"] = field("on", "Devices and sessions", "Whether new devices may register. `on` without `registration_secret`: anybody who reaches the port may, which is logged at the start.")
    registration_secret: SecretStr | None = secret("Devices and sessions", "What a new device has to bring to register.")
    registration_secret_file: Path | None = field(None, "Devices and sessions", "File that holds `registration_secret`.")
    sessions_max_per_user: int = field(100, "Devices and sessions", "Sessions of one user that may be open at once.", ge=1, le=100000)
    session_ttl_s: float = field(3600.0, "Devices and sessions", "How long a session lives after its last change, in seconds; one that carries audio does not expire.", ge=10, le=2592000)
    session_keep_days: float = field(30.0, "Devices and sessions", "How long a session is kept after its end, in days.", ge=0.01, le=3650)
    api_rate_factor: float = field(1.0, "Devices and sessions", "What the limits of requests a minute are multiplied by. 0: no limits.", ge=0, le=1000)

    # --- database
    database_url: SecretStr = Field(SecretStr("sqlite:///voiceingest.db"), description="Where sessions are kept: `sqlite:///relative/path`, `sqlite:////absolute/path` or `postgresql://user:password@host[:port]/name[?sslmode=verify-full&sslrootcert=/path]`.", json_schema_extra={"section": "Database", "secret": True})
    database_url_file: Path | None = field(None, "Database", "File that holds `database_url`.")
    pgpool_max_ingress: int = field(5, "Database", "Connections to PostgreSQL at the most.", ge=1, le=200)
    pg_conn_timeout_ms: int = field(2000, "Database", "How long a connection to PostgreSQL may take, or one of the pool be waited for, in milliseconds.", ge=50, le=60000)
    pg_idle_timeout_ms: int = field(10000, "Database", "A connection that was idle for so long is closed, in milliseconds.", ge=1000, le=3600000)
    pg_connect_retries: int = field(3, "Database", "How often a connection is tried again before a request is answered that the database is away; each pause is twice as long.", ge=0, le=10)
    session_cache: Literal["auto", "off"] = field("auto", "Database", "Redis in front of the reads of sessions. `auto`: where `session_cache_url` is set, or else the bus is `redis://` or `rediss://`.")
    session_cache_url: SecretStr | None = secret("Database", "Redis for the cache, as `redis[s]://[user:password@]host[:port][/db]`.")
    session_cache_url_file: Path | None = field(None, "Database", "File that holds `session_cache_url`.")

    # --- gRPC
    grpc: Literal["auto", "on", "off"] = field("auto", "gRPC", "The API for sessions over gRPC. `auto`: where `control` is on and the extra `grpc` is installed. `on`: else the start is refused.")
    grpc_port: int = field(50051, "gRPC", "TCP port of gRPC.", ge=0, le=65535)
    grpc_interface: str | None = field(None, "gRPC", "Address gRPC listens at. Unset: every one with TLS (`ssl_key_path`, `ssl_cert_path`), else the loopback only.")

    @property
    def has_control(self) -> bool:
        """Whether the API for devices and sessions is there."""
        return self.control != "off" and self.has_device_key

    @property
    def has_device_key(self) -> bool:
        """Whether tokens for devices can be signed."""
        return self.jwt_secret is not None or self.jwt_private_key is not None

    @property
    def access_token_s(self) -> float:
        """Life of an access token in seconds."""
        return duration_s(self.jwt_expires_in) or 0.0

    @property
    def refresh_token_s(self) -> float:
        """Life of a refresh token in seconds."""
        return duration_s(self.refresh_token_expires_in) or 0.0

    @field_validator("jwt_expires_in", "refresh_token_expires_in")
    @classmethod
    def _durations(cls, value: str) -> str:
        seconds = duration_s(value)
        if seconds is None or not 1 <= seconds <= _YEAR_S:
            raise PydanticCustomError("duration", "a number with s, m, h or d, such as 12h, and at most a year")
        return value

    @model_validator(mode="after")
    def _agree_on_control(self) -> ControlSettings:
        """Refuse what is fine alone and wrong together, or too weak."""
        for key in ("jwt_secret", "jwt_secret_previous", "registration_secret"):
            given: SecretStr | None = getattr(self, key)
            least = 32 if key.startswith("jwt") else 16
            if given is not None and len(given.get_secret_value().encode()) < least:
                raise PydanticCustomError(key, "at least {least} bytes", {"least": least})
        if self.control == "on" and not self.has_device_key:
            raise PydanticCustomError("control", "needs jwt_secret or jwt_private_key")
        if self.grpc == "on" and not self.has_control:
            raise PydanticCustomError("grpc", "needs the sessions: jwt_secret or jwt_private_key, and control not off")
        # Not urlsplit: what it raises may quote the URL, password and all.
        scheme, separator, _ = self.database_url.get_secret_value().partition("://")
        if not separator or scheme not in get_args(DatabaseScheme):
            raise PydanticCustomError("database_url", "begins with sqlite:/// or postgresql://")
        return self
