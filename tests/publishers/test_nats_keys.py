"""Keys of NATS: seeds and signatures."""

from __future__ import annotations

from base64 import b64decode

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.publishers.nats_keys import BadSeed, NatsKey

# From the documentation of NATS on authentication with nkeys.
SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


class NatsKeyTests(SynchronousTestCase):
    def test_a_seed_somebody_else_made(self) -> None:
        key = NatsKey.from_seed(SEED)
        self.assertEqual((key.public, key.seed), (PUBLIC, SEED))

    @given(st.binary(min_size=32, max_size=32), st.sampled_from([14 << 3, 0, 20 << 3]))
    def test_what_is_written_is_read(self, private: bytes, prefix: int) -> None:
        key = NatsKey(private, prefix)
        again = NatsKey.from_seed(key.seed)
        self.assertEqual((again.public, again.seed), (key.public, key.seed))

    def test_what_is_signed_can_be_checked(self) -> None:
        key = NatsKey.from_seed(SEED)
        public = Ed25519PublicKey.from_public_bytes(key._private.public_key().public_bytes_raw())
        public.verify(b64decode(key.answer("a nonce")), b"a nonce")

    @given(st.text(max_size=80))
    def test_what_is_no_seed(self, text: str) -> None:
        self.assertRaises(BadSeed, NatsKey.from_seed, text)

    def test_one_with_a_slip_of_the_pen(self) -> None:
        for place in range(len(SEED)):
            slip = SEED[:place] + ("A" if SEED[place] != "A" else "B") + SEED[place + 1 :]
            self.assertRaises(BadSeed, NatsKey.from_seed, slip)
        self.assertRaises(BadSeed, NatsKey.from_seed, PUBLIC)
