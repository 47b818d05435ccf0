"""The settings as a value: every validator, what must agree, and secrets that do not show."""

from __future__ import annotations

import pickle
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from tests.support.case import SynchronousTestCase
from voiceingest.config.settings import Settings

CANARY: Final = "canary-secret-1a2b"


def made(**fields: Any) -> Settings:
    """Settings from plain values, as a file gives them."""
    return Settings(**fields)


class Case(SynchronousTestCase):
    """Makes settings, or says why they cannot be made."""

    def refused(self, **fields: Any) -> list[str]:
        """The types of the errors; ``Settings`` must not take these."""
        with self.assertRaises(ValidationError) as caught:
            made(**fields)
        return [error["type"] for error in caught.exception.errors()]

    def assert_range(self, name: str, good: tuple[float, ...], bad: tuple[float, ...]) -> None:
        """What a number may be."""
        for value in good:
            self.assertEqual(getattr(made(**{name: value}), name), value)
        for value in bad:
            self.assertEqual(len(self.refused(**{name: value})), 1, (name, value))


class Validators(Case):
    """Each field by itself."""

    def test_trusted_proxies(self) -> None:
        for good in (
            (),
            ("10.0.0.1",),
            ("10.0.0.0/8", "192.168.1.7/24"),
            ("::1", "fd00::/8"),
            ("0.0.0.0/0",),
        ):
            self.assertEqual(made(trusted_proxies=good).trusted_proxies, good)
        for bad in ("", "localhost", "10.0.0.0/33", "10.0.0", "10.0.0.1:80", "*", "::1/129", " 10.0.0.1"):
            self.assertEqual(self.refused(trusted_proxies=("10.0.0.1", bad)), ["network"], bad)

    def test_allowed_origins(self) -> None:
        for good in ("https://app.example.com", "http://localhost:3000", "https://[::1]:8443"):
            self.assertEqual(made(allowed_origins=(good,)).allowed_origins, (good,))
        for bad in (
            "*",
            "",
            "null",
            "app.example.com",
            "https://",
            "https://app.example.com/",
            "https://app.example.com/page",
            "https://user@app.example.com",
            "https://app.example.com?x",
            "https://app.example.com#x",
            "wss://app.example.com",
            "https://app.example.com\n",
            " https://app.example.com",
            "https://a b",
            "https://a https://b",
        ):
            self.assertEqual(self.refused(allowed_origins=(bad,)), ["origin"], bad)

    def test_realtime_factor(self) -> None:
        self.assert_range("ingest_max_realtime_factor", (0, 1, 1.5, 8, 1000), (0.5, 0.999, 1e-9, -1, 1001))
        self.assertEqual(self.refused(ingest_max_realtime_factor=0.5), ["factor"])

    def test_ranges(self) -> None:
        nan, inf = float("nan"), float("inf")
        self.assert_range("port", (1, 65535), (0, 65536, -1))
        self.assert_range("max_frame_bytes", (2, 1048576), (1, 0, 1048577))
        self.assert_range("ack_interval", (1, 10000), (0, 10001))
        self.assert_range("buffer_duration_ms", (100, 60000), (99, 60001))
        self.assert_range("jwt_leeway_s", (0, 300), (-0.1, 301, nan, inf))
        self.assert_range("idle_timeout_s", (0, 86400), (-1, 86401, nan))
        self.assert_range("max_connections", (0, 1, 10**9), (-1,))
        self.assert_range("max_connections_per_ip", (0, 1), (-1,))
        self.assert_range("ping_interval_s", (0, 3600), (-1, 3601))
        self.assert_range("publish_buffer_bytes", (65536,), (65535, 0))
        self.assert_range("drain_deadline_s", (0, 3600), (-1, 3601))
        # A deadline of nought would refuse everybody.
        for name in (
            "handshake_timeout_s",
            "start_timeout_s",
            "write_timeout_s",
            "ping_timeout_s",
            "stop_flush_timeout_s",
            "publish_reply_timeout_s",
            "publish_connect_timeout_s",
        ):
            self.assert_range(name, (0.1, 10), (0, -1, inf))

    def test_words(self) -> None:
        for name, good, bad in (
            ("ack_mode", "received", "sent"),
            ("log_level", "debug", "verbose"),
            ("jwt_algorithms", ("RS256", "ES256"), ("RS256", "HS256")),
            ("jwt_algorithms", ("EdDSA",), ("EdDSA", "none")),
        ):
            self.assertEqual(getattr(made(**{name: good}), name), good)
            self.assertEqual(self.refused(**{name: bad}), ["literal_error"])
        for name in ("jwt_tenant_claim", "jwt_interaction_claim", "service_name", "environment"):
            self.assertEqual(self.refused(**{name: ""}), ["string_too_short"])
        self.assertEqual(self.refused(jwt_algorithms=()), ["too_short"])

    def test_unknown_and_frozen(self) -> None:
        self.assertEqual(self.refused(max_conections=3), ["extra_forbidden"])
        with self.assertRaises(ValidationError):
            made().port = 1  # type: ignore[misc]  # what is tested

    @given(st.text(max_size=30))
    def test_any_text_is_an_origin_or_is_refused(self, text: str) -> None:
        try:
            [origin] = made(allowed_origins=(text,)).allowed_origins
        except ValidationError:
            return
        # Whatever was taken can be what a browser sends: a scheme and a host, nothing after it.
        self.assertRegex(origin, r"\Ahttps?://[^/?#@\s]+\Z")


class Agreement(Case):
    """Fields that are fine alone."""

    def test_key_and_certificate_go_together(self) -> None:
        both = made(ssl_key_path="/k", ssl_cert_path="/c")
        self.assertEqual((str(both.ssl_key_path), str(both.ssl_cert_path)), ("/k", "/c"))
        alone: dict[str, Any]
        for alone in ({"ssl_key_path": "/k"}, {"ssl_cert_path": "/c"}):
            self.assertEqual(self.refused(**alone), ["ssl_cert_path"])

    def test_one_source_of_keys(self) -> None:
        url = "https://keys.example/"
        self.assertEqual(made(jwt_jwks_url=url).jwt_jwks_url, url)
        self.assertEqual(self.refused(jwt_jwks_url=url, jwt_public_key="PEM"), ["jwt_jwks_url"])
        self.assertEqual(self.refused(jwt_jwks_url=url, jwt_public_key_file="/pem"), ["jwt_jwks_url"])

    def test_channels(self) -> None:
        for name in ("redis_channel", "redis_events_channel"):
            for good in ("a", "a:{tenant_id}", "{tenant_id}/{interaction_id}", "a}", "{"):
                self.assertEqual(getattr(made(**{name: good}), name), good)
            for bad in ("{tenant}", "{}", "a:{tenant_id}:{seq}", "{ tenant_id}", "{tenant_id!r}"):
                self.assertEqual(self.refused(**{name: bad}), [name], bad)
            self.assertEqual(self.refused(**{name: ""}), ["string_too_short"])

    def test_the_bus(self) -> None:
        self.assertEqual(made().bus_url, "redis://localhost:6379")
        self.assertEqual(made(redis_url="redis://a").bus_url, "redis://a")
        self.assertEqual(made(redis_url="redis://a", publish_url="memory://").bus_url, "memory://")
        redis = ("redis://u:p@h:1/2", "rediss://h", "unix:///run/redis.sock", "redis-streams://h")
        sentinel = ("redis+sentinel://h1,h2/main", "rediss-streams+sentinel://h1/main/3")
        for good in ("memory://", *redis, *sentinel, "nats://h", "nats+tls://h1,h2"):
            self.assertEqual(made(publish_url=good).bus_url, good)
        self.assertEqual(self.refused(redis_url=""), ["publish_url"])
        for bad in ("http://h", "REDIS://h", " redis://h", "kafka://h", "redis+cluster://h"):
            self.assertEqual(self.refused(publish_url=bad), ["publish_url"], bad)
            self.assertEqual(self.refused(redis_url=bad), ["publish_url"], bad)
        # What is not in use need not be usable.
        self.assertEqual(made(redis_url="http://h", publish_url="memory://").bus_url, "memory://")


class Calls(Case):
    """Who may bring calls, and what is asked of others."""

    def test_the_endpoint_is_there_when_somebody_is_named(self) -> None:
        self.assertFalse(made().takes_calls)
        given: dict[str, Any]
        for given in (
            {"exotel_ws_token": "t"},
            {"exotel_ws_user": "u", "exotel_ws_password": "p"},
            {"exotel_allowed_ips": ["192.0.2.0/24"]},
            {"exotel_webhook_token": "t"},
            {"exotel_ws_auth": "none"},
        ):
            self.assertTrue(made(**given).takes_calls, given)
            self.assertFalse(made(**given, voicebot="off").takes_calls)
            self.assertTrue(made(**given, voicebot="on").takes_calls)

    def test_it_is_not_opened_by_leaving_something_out(self) -> None:
        self.assertEqual(self.refused(voicebot="on"), ["voicebot"])
        self.assertEqual(self.refused(exotel_ws_user="u"), ["exotel_ws_user"])
        self.assertEqual(self.refused(exotel_ws_password="p"), ["exotel_ws_user"])
        self.assertEqual(self.refused(exotel_allowed_ips=["everybody"]), ["network"])
        self.assertEqual(self.refused(exotel_callback_secret="s" * 31), ["exotel_callback_secret"])

    def test_secrets_go_over_tls_or_stay_on_the_machine(self) -> None:
        for good in (
            *("https://h", "https://h:8443/v1"),
            *("http://127.0.0.1:1/v1", "http://localhost", "http://[::1]:2"),
        ):
            self.assertEqual(made(llm_url=good).llm_url, good)
        for bad in (
            *("http://h", "http://127.0.0.1.evil.example/", "http://localhost.evil.example", "ftp://h"),
            *("https://u:p@h", "https://h?x=1", "https://h#f", "https://", "http://127.0.0.1@evil/"),
        ):
            self.assertEqual(self.refused(llm_url=bad), ["url"], bad)

    def test_chunks_and_the_bridge(self) -> None:
        self.assertEqual(made(voicebot_chunk_bytes=640).voicebot_chunk_bytes, 640)
        self.assertEqual(self.refused(voicebot_chunk_bytes=641), ["chunk"])
        self.assertEqual(self.refused(voicebot_sample_rate=44100), ["rate"])
        self.assertEqual(self.refused(exo_bridge_enabled=True), ["exo_bridge_enabled"])
        self.assertTrue(made(exo_bridge_enabled=True, deepgram_api_key="k").exo_bridge_enabled)


class Control(Case):
    """Devices, tokens and sessions."""

    def test_they_are_there_where_tokens_can_be_signed(self) -> None:
        key = "k" * 32
        self.assertFalse(made().has_control)
        self.assertTrue(made(jwt_secret=key).has_control)
        self.assertTrue(made(jwt_private_key="pem").has_control)
        self.assertFalse(made(jwt_secret=key, control="off").has_control)
        self.assertEqual(self.refused(control="on"), ["control"])
        self.assertEqual(self.refused(grpc="on"), ["grpc"])
        self.assertEqual(self.refused(grpc="on", jwt_secret=key, control="off"), ["grpc"])

    def test_weak_secrets(self) -> None:
        self.assertEqual(self.refused(jwt_secret="k" * 31), ["jwt_secret"])
        self.assertEqual(self.refused(jwt_secret_previous="k" * 31), ["jwt_secret_previous"])
        self.assertEqual(self.refused(registration_secret="k" * 15), ["registration_secret"])
        made(jwt_secret="\u00e9" * 16, registration_secret="k" * 16)

    def test_durations(self) -> None:
        week_s = 7 * 86400
        for text, seconds in (("90", 90), ("90s", 90), ("30m", 1800), ("7d", week_s), ("1w", week_s)):
            settings = made(jwt_expires_in=text, refresh_token_expires_in=text)
            self.assertEqual((settings.access_token_s, settings.refresh_token_s), (seconds, seconds))
        for bad in ("", "0", "d", "7 d", "-1d", "1.5h", "7D", "367d", "1y", "1" * 20):
            self.assertEqual(self.refused(jwt_expires_in=bad), ["duration"], bad)

    def test_database_url(self) -> None:
        for good in ("sqlite:///a.db", "sqlite:////var/a.db", "postgresql://u:p@h/db", "postgres://h/db"):
            made(database_url=good)
        for bad in ("", "mysql://h/db", "a.db", "postgresql:h"):
            self.assertEqual(self.refused(database_url=bad), ["database_url"], bad)


class Secrets(Case):
    """They are in the value and in nothing that is printed."""

    FIELDS: Final = (
        *("admin_token", "jwt_public_key", "resume_secret", "redis_sentinel_password"),
        *("publish_url", "redis_url"),
        *("exotel_ws_token", "exotel_ws_password", "exotel_webhook_token", "exotel_callback_secret"),
        *("exotel_api_key", "exotel_api_token", "exotel_caller_id", "deepgram_api_key", "llm_api_key"),
        *("jwt_secret", "jwt_secret_previous", "jwt_private_key", "jwt_private_key_previous"),
        *("registration_secret", "database_url", "session_cache_url"),
    )

    def values(self) -> dict[str, Any]:
        """A canary in every secret."""
        url = f"redis://user:{CANARY}@host"
        long = dict.fromkeys(("resume_secret", "exotel_callback_secret"), CANARY * 2)
        long |= dict.fromkeys(("jwt_secret", "jwt_secret_previous"), CANARY * 2)
        urls = {"publish_url": url, "redis_url": url, "database_url": url.replace("redis", "postgresql")}
        return {**dict.fromkeys(self.FIELDS, CANARY), **long, **urls, "exotel_ws_user": "u"}

    def test_every_secret_is_one(self) -> None:
        marked = {
            name
            for name, field in Settings.model_fields.items()
            if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("secret")
        }
        self.assertEqual(marked, set(self.FIELDS))
        settings = made(**self.values())
        for name in marked:
            self.assertIsInstance(getattr(settings, name), SecretStr)

    def test_they_are_not_printed(self) -> None:
        settings = made(**self.values())
        for text in (repr(settings), str(settings), f"{settings!s}", str(settings.model_dump()),
                     settings.model_dump_json(), repr(vars(settings))):  # fmt: skip
            self.assertNotIn(CANARY, text)
        self.assertIn(CANARY, settings.bus_url)

    def test_they_are_not_in_an_error(self) -> None:
        """Of a value that is wrong by itself, of one that disagrees, of a cause hidden behind it."""
        fields: dict[str, Any]
        for fields in (
            {**self.values(), "port": 0},
            {**self.values(), "jwt_jwks_url": "https://x"},
            {**self.values(), "ssl_key_path": "/k"},
            {"publish_url": f"http://user:{CANARY}@host"},
            {"redis_url": f"redis//user:{CANARY}@["},
            {"redis_url": [CANARY]},
        ):
            with self.assertRaises(ValidationError) as caught:
                made(**fields)
            error = caught.exception
            for text in (str(error), repr(error), *(found["msg"] for found in error.errors())):
                self.assertNotIn(CANARY, text)
            self.assertIsNone(error.__cause__)

    def test_they_survive_a_copy(self) -> None:
        settings = made(**self.values())
        self.assertEqual(pickle.loads(pickle.dumps(settings)).bus_url, settings.bus_url)
