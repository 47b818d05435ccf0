"""Redis URLs and the certificate behind rediss."""

from __future__ import annotations

import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.errors import BadCertificate, SettingsError
from voiceingest.publishers.redis_url import SENTINELS_MAX_COUNT, RedisUrl, parse_redis_url, tls_for

SECRET = "s3cr3t-canary"


class ParseTests(SynchronousTestCase):
    def test_what_is_understood(self) -> None:
        cases = {
            "redis://": RedisUrl("localhost"),
            "redis://cache": RedisUrl("cache"),
            "redis://cache:7000/3": RedisUrl("cache", 7000, db=3),
            "redis://cache/?db=4": RedisUrl("cache", db=4),
            "redis://[::1]:7000": RedisUrl("::1", 7000),
            "redis://:pw@cache": RedisUrl("cache", password="pw"),
            "redis://user:p%40s%2Fs%3A%23@cache": RedisUrl("cache", username="user", password="p@s/s:#"),
            "redis://b%C3%A9:@cache": RedisUrl("cache", username="bé", password=""),
            "rediss://cache:6380": RedisUrl("cache", 6380, tls=True),
            "redis-streams://cache": RedisUrl("cache", streams=True),
            "rediss-streams://:pw@cache/1": RedisUrl("cache", tls=True, db=1, password="pw", streams=True),
            "redis+sentinel://a/voice": RedisUrl(sentinels=(("a", 26379),), service="voice"),
            "rediss-streams+sentinel://u:p%40@a:1,[::1]:3,b/my.voice_1/2": RedisUrl(
                tls=True,
                db=2,
                username="u",
                password="p@",
                streams=True,
                sentinels=(("a", 1), ("::1", 3), ("b", 26379)),
                service="my.voice_1",
            ),
            "unix:///run/redis.sock": RedisUrl(path="/run/redis.sock"),
            "unix://u:p@/a%20b.sock?db=2": RedisUrl(path="/a b.sock", db=2, username="u", password="p"),
        }
        for url, expected in cases.items():
            self.assertEqual(parse_redis_url(url), expected, url)

    def test_what_is_refused_names_the_key_and_nothing_of_the_url(self) -> None:
        wrong = [
            f"http://:{SECRET}@cache",
            f"redis://:x/{SECRET}@cache",
            f"redis://:x#{SECRET}@cache",
            f"redis://:x?{SECRET}@cache",
            f"redis://cache:{SECRET}",
            f"redis://[{SECRET}",
            f"redis://{SECRET}@cache",
            f"redis://cache/{SECRET}",
            f"redis://cache/?db=1&password={SECRET}",
            f"unix://{SECRET}/run/redis.sock",
            f"unix-streams://:{SECRET}@/run/redis.sock",
            f"unix+sentinel://:{SECRET}@a/voice",
            f"redis-{SECRET}://cache",
            f"redis+{SECRET}://cache/voice",
            f"redis://:{SECRET}@a,b/0",
            f"redis://:{SECRET}@cache/voice/0",
            f"redis+sentinel://:{SECRET}@a,b",
            f"redis+sentinel://:{SECRET}@a,,b/voice",
            f"redis+sentinel://:{SECRET}@/voice",
            f"redis+sentinel://:{SECRET}@a/voice/x",
            f"redis+sentinel://:{SECRET}@a/voice/0/1",
            f"redis+sentinel://:{SECRET}@a/vo%20ice",
            f"redis+sentinel://a,b:{SECRET}/voice",
            "redis+sentinel://" + ",".join(["a"] * (SENTINELS_MAX_COUNT + 1)) + "/voice",
            "unix://",
            "redis://cache:99999",
            "redis://cache/-1",
            "redis://cache/²",
        ]
        for url in wrong:
            with self.assertRaises(SettingsError) as caught:
                parse_redis_url(url)
            self.assertTrue(caught.exception.message.startswith("publish_url: "), url)
            self.assertNotIn(SECRET, caught.exception.message)
            self.assertIsNone(caught.exception.__cause__)
            self.assertTrue(caught.exception.__suppress_context__ or caught.exception.__context__ is None)

    def test_the_representation_keeps_the_secret(self) -> None:
        self.assertNotIn(SECRET, repr(parse_redis_url(f"redis://{SECRET}:{SECRET}@cache")))

    @settings(max_examples=200, deadline=None)
    @given(
        st.text(max_size=40),
        st.sampled_from(["redis://", "rediss-streams://", "unix://", "redis+sentinel://", ""]),
    )
    def test_only_settings_errors_come_out(self, text: str, scheme: str) -> None:
        try:
            self.assertIsInstance(parse_redis_url(scheme + text), RedisUrl)
        except SettingsError as error:
            self.assertEqual(len(error.problems), 1)


class CertificateTests(SynchronousTestCase):
    def test_a_file_may_hold_several_authorities(self) -> None:
        path = self.mktemp_path()
        path.write_bytes(trustme.CA().cert_pem.bytes() + b"\n" + trustme.CA().cert_pem.bytes())
        tls_for(path)("cache")
        tls_for(path)("192.0.2.1")
        tls_for(None)("cache")

    def test_a_file_that_cannot_be_used_stops_the_start(self) -> None:
        path = self.mktemp_path()
        for content, words in (
            (None, "No such file"),
            (b"", "holds no PEM"),
            (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not a PEM"),
        ):
            if content is not None:
                path.write_bytes(content)
            with self.assertRaises(BadCertificate) as caught:
                tls_for(path)
            self.assertIn(words, caught.exception.message)
            self.assertIn("redis_ca_path", caught.exception.message)
