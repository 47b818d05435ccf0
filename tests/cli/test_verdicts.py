from __future__ import annotations

import ast
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from tests.support.tokens import Issuer
from voiceingest import auth
from voiceingest.auth.keys import KeySet, from_pem
from voiceingest.auth.tokens import Rules
from voiceingest.cli.verdicts import _WHY, in_words, judge

NOW_S = 1_800_000_000.0
ISSUER = Issuer(now=lambda: NOW_S)


def keys(issuer: Issuer = ISSUER) -> KeySet:
    return from_pem(issuer.public_pem, ["RS256"])


class JudgeTests(SynchronousTestCase):
    def test_valid(self) -> None:
        verdict = judge(ISSUER.token(lifetime_s=60), keys(), Rules(), NOW_S)
        self.assertTrue(verdict.valid)
        self.assertIsNone(verdict.reason)
        self.assertEqual(verdict.claims["tenant_id"], "t1")
        self.assertEqual(verdict.remaining_s(NOW_S), 60)

    def test_why_not(self) -> None:
        other = Issuer(now=lambda: NOW_S)
        for token, rules, reason in (
            (ISSUER.token(lifetime_s=-600), Rules(), "expired"),
            (other.token(), Rules(), "bad_signature"),
            (ISSUER.token(), Rules(issuer="x"), "issuer"),
            (ISSUER.token(), Rules(audience="x"), "audience"),
            (ISSUER.token(exp=None), Rules(), "no_exp"),
            (ISSUER.token(), Rules(algorithms=frozenset({"ES256"})), "bad_algorithm"),
            ("", Rules(), "missing"),
            ("a.b", Rules(), "malformed"),
        ):
            verdict = judge(token, keys(), rules, NOW_S)
            self.assertEqual((verdict.valid, verdict.reason), (False, reason))
            self.assertEqual(verdict.why, _WHY[reason])

    def test_without_a_key_nothing_is_valid_and_the_claims_are_shown(self) -> None:
        verdict = judge(ISSUER.token(), None, Rules(), NOW_S)
        self.assertEqual((verdict.valid, verdict.reason), (False, "no_key"))
        self.assertEqual(verdict.claims["sub"], "tester")

    def test_every_reason_the_daemon_can_have_is_in_words(self) -> None:
        folder = Path(auth.__file__).parent
        reasons: set[str] = set()
        for name in ("tokens.py", "keys.py"):
            for node in ast.walk(ast.parse((folder / name).read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "refusal":
                    reasons |= {
                        part.value for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant)
                    }
        self.assertGreater(len(reasons), 10)
        self.assertEqual({reason for reason in reasons if reason not in _WHY} - {"bad_"}, set())

    @given(st.text(max_size=200))
    def test_any_text_has_a_verdict(self, text: str) -> None:
        verdict = judge(text, keys(), Rules(), NOW_S)
        self.assertFalse(verdict.valid)
        self.assertNotEqual(verdict.why, "")

    def test_an_end_that_is_no_number(self) -> None:
        verdict = judge(ISSUER.token(exp="soon"), keys(), Rules(), NOW_S)
        self.assertIsNone(verdict.remaining_s(NOW_S))


class WordsTests(SynchronousTestCase):
    def test_table(self) -> None:
        for seconds, words in (
            (0, "0 s"),
            (59.9, "59 s"),
            (61, "1 min 1 s"),
            (3600 + 59 * 60, "1 h 59 min"),
            (-90, "1 min 30 s"),
            (90000, "1 d 1 h"),
        ):
            self.assertEqual(in_words(seconds), words)
