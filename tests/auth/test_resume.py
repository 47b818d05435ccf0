"""Resume tokens are read back as they were minted, and nothing else is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.auth.resume import ResumeTokens
from voiceingest.errors import ResumeRefused
from voiceingest.limits import IDENTIFIER_MAX_CHARS, RESUME_TOKEN_MAX_BYTES
from voiceingest.stream import ResumeClaim

AUDIO = (24000, "pcm16")
NAMES = st.text(min_size=1, max_size=IDENTIFIER_MAX_CHARS).filter(str.isprintable)


def tokens(secret: str | None = "s" * 32, window_s: float = 30.0) -> ResumeTokens:
    return ResumeTokens(secret, window_s, lambda: 1000.5)


class ResumeTokensTests(SynchronousTestCase):
    @given(NAMES, NAMES, st.integers(0, 2**53), st.integers(1, 2**53), st.booleans())
    def test_what_is_minted_is_read(self, tenant: str, call: str, epoch: int, seq: int, exact: bool) -> None:
        ours = tokens()
        token = ours.mint(tenant, call, epoch, AUDIO, seq, is_exact=exact)
        claim = ResumeClaim(ours.node, tenant, call, epoch, *AUDIO, seq, exact, 1000.5)
        self.assertEqual(ours.read(token), claim)
        # And by another process with the secret, which knows that it is not its own.
        other = tokens()
        self.assertEqual(other.read(token), claim)
        self.assertNotEqual(other.node, claim.node)
        self.assertLessEqual(len(token), RESUME_TOKEN_MAX_BYTES)
        self.assertTrue(token.isascii())

    def test_the_longest_names_fit(self) -> None:
        longest = "\U0001f4de" * IDENTIFIER_MAX_CHARS
        token = tokens().mint(longest, longest, 2**53, AUDIO, 2**53, is_exact=True)
        self.assertLessEqual(len(token), RESUME_TOKEN_MAX_BYTES)

    @given(st.text(max_size=200))
    def test_nothing_else_is(self, text: str) -> None:
        self.assertRaises(ResumeRefused, tokens().read, text)

    @given(st.data())
    def test_not_one_character_of_it_may_change(self, data: st.DataObject) -> None:
        token = tokens().mint("acme", "call", 1, AUDIO, 1)
        place = data.draw(st.integers(0, len(token) - 2))
        other = data.draw(st.sampled_from("AQgw.-_x0"))
        changed = token[:place] + other + token[place + 1 :]
        if changed != token:
            self.assertRaises(ResumeRefused, tokens().read, changed)

    def test_another_secret_signs_otherwise(self) -> None:
        token = tokens("x" * 32).mint("acme", "call", 1, AUDIO, 1)
        self.assertRaises(ResumeRefused, tokens().read, token)

    def test_without_a_secret_each_process_has_its_own(self) -> None:
        one, two = tokens(None), tokens(None)
        token = one.mint("acme", "call", 1, AUDIO, 1)
        self.assertEqual(one.read(token).interaction_id, "call")
        self.assertRaises(ResumeRefused, two.read, token)

    def test_without_a_window_none_is_good(self) -> None:
        token = tokens().mint("acme", "call", 1, AUDIO, 1)
        self.assertRaises(ResumeRefused, tokens(window_s=0.0).read, token)

    def test_what_another_version_signed_is_refused(self) -> None:
        ours = tokens()
        from voiceingest.auth.resume import _text

        for payload in (b"[]", b"{}", b"3", b'["n","t","i",1,8000,"pcm16","1",false,1.0]', b"\xff", b""):
            self.assertRaises(ResumeRefused, ours.read, f"{_text(payload)}.{_text(ours._sign(payload))}")
