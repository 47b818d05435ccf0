from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.auth.bearer import SUBPROTOCOL, Credential, find_credential
from voiceingest.errors import Unauthenticated
from voiceingest.limits import TOKEN_MAX_BYTES

JWT = "eyJh-_0.eyJz.c2ln"


class BearerTests(SynchronousTestCase):
    def refused(self, reason: str, *brought: list[str]) -> None:
        with self.assertRaises(Unauthenticated, msg=repr(brought)) as caught:
            find_credential(*brought)
        self.assertEqual(caught.exception.reason, reason)
        self.assertEqual(caught.exception.args, ("A valid bearer token is required",))

    def test_header(self) -> None:
        for value in (f"Bearer {JWT}", f"bearer {JWT}", f"BEARER   {JWT}", f" \tBearer {JWT} \t"):
            self.assertEqual(find_credential([value], [], []), Credential("token", JWT))

    def test_header_takes_all_of_b64token(self) -> None:
        self.assertEqual(find_credential(["Bearer aZ0-._~+/=="], [], []).value, "aZ0-._~+/==")

    def test_subprotocol(self) -> None:
        for offered in (["voice.v1", f"bearer.{JWT}"], [f"bearer.{JWT}", "voice.v1"]):
            self.assertEqual(find_credential([], offered, []), Credential("token", JWT, "voice.v1"))

    def test_ticket(self) -> None:
        self.assertEqual(find_credential([], [], ["abc-_9"]), Credential("ticket", "abc-_9"))

    def test_the_subprotocol_is_answered_whatever_carries_the_credential(self) -> None:
        self.assertEqual(find_credential([f"Bearer {JWT}"], ["x", "voice.v1"], []).subprotocol, SUBPROTOCOL)
        self.assertEqual(find_credential([], ["voice.v1"], ["abc"]).subprotocol, SUBPROTOCOL)

    def test_without_voice_v1_nothing_is_answered_and_never_the_secret(self) -> None:
        self.assertIsNone(find_credential([], [f"bearer.{JWT}"], []).subprotocol)
        self.assertIsNone(find_credential([], [f"bearer.{JWT}", "Voice.v1", "chat"], []).subprotocol)

    def test_missing(self) -> None:
        self.refused("missing", [], [], [])
        self.refused("missing", [], ["voice.v1", "bearer", "Bearer.x"], [])

    def test_two_credentials(self) -> None:
        header, offered = f"Bearer {JWT}", f"bearer.{JWT}"
        for brought in (
            ([header], [offered], []), ([header], [], ["abc"]), ([], [offered], ["abc"]),
            ([header], [offered], ["abc"]), ([header, header], [], []), ([header, "Basic eDp5"], [], []),
            ([], [offered, offered], []), ([], [offered, "bearer."], []), ([], [], ["abc", "abc"]),
            ([header], [], [""]), (["", header], [], []),
        ):
            self.refused("two_credentials", *brought)

    def test_wrong_scheme(self) -> None:
        for value in ("", "Basic eDp5", JWT, "Bearer", "Token x", f"Bearer:{JWT}", f"Bearer\t{JWT}", "X y=z"):
            self.refused("bad_scheme", [value], [], [])

    def test_characters_that_no_token_has(self) -> None:
        for value in (
            "Bearer ", "Bearer a b", "Bearer a, Bearer b", f"Bearer {JWT},{JWT}", "Bearer a\x00",
            "Bearer a\n", "Bearer a=b", "Bearer é", "Bearer \N{SNOWMAN}", 'Bearer "a"', "Bearer a;b",
            "Bearer =",
        ):
            self.refused("malformed", [value], [], [])
        for name in ("bearer.", "bearer.a/b", "bearer.a=", "bearer.a b", "bearer.\x7f", "bearer.é"):
            self.refused("malformed", [], ["voice.v1", name], [])
        for ticket in ("", "a.b", "a b", "a\x00", "é", "a=", "../x"):
            self.refused("malformed", [], [], [ticket])

    def test_too_long(self) -> None:
        most = "a" * TOKEN_MAX_BYTES
        self.assertEqual(find_credential([f"Bearer {most}"], [], []).value, most)
        self.assertEqual(find_credential([], [f"bearer.{most}"], []).value, most)
        self.refused("too_big", [f"Bearer {most}a"], [], [])
        self.refused("too_big", [], [f"bearer.{most}a"], [])
        self.refused("too_big", [], [], ["a" * 65])

    def test_the_secret_is_in_no_representation(self) -> None:
        self.assertNotIn(JWT, repr(find_credential([f"Bearer {JWT}"], [], [])))


short = st.lists(
    st.text(max_size=12)
    | st.text("abz09-._~+/=", max_size=12).map("Bearer ".__add__)
    | st.text("abz09-._", max_size=12).map("bearer.".__add__)
    | st.just("voice.v1"),
    max_size=2,
)


class PropertyTests(SynchronousTestCase):
    @settings(max_examples=400, deadline=None, database=None)
    @given(short, short, short)
    def test_one_credential_or_a_refusal(
        self, headers: list[str], offered: list[str], tickets: list[str]
    ) -> None:
        kinds = len(headers) + sum(name.startswith("bearer.") for name in offered) + len(tickets)
        try:
            found = find_credential(headers, offered, tickets)
        except Unauthenticated as error:
            self.assertEqual(error.reason == "missing", kinds == 0)
            return
        self.assertEqual(kinds, 1)
        self.assertEqual(found.subprotocol, "voice.v1" if "voice.v1" in offered else None)
        self.assertTrue(found.value and found.value.isascii() and not set(found.value) & set(" ,;\"'\r\n\0"))
        self.assertTrue(any(found.value in brought for brought in (*headers, *offered, *tickets)))
