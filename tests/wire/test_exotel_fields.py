"""Queries, forms and JSON become the same pairs, and nothing hostile becomes anything else."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.errors import BadField, BadJson, VoiceIngestError
from voiceingest.wire.exotel_fields import FIELDS_MAX_COUNT, fold, one, read_fields

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=xyz"
PART = b'--xyz\r\nx; name="a"\r\n\r\n'


def multipart(*fields: tuple[str, str], boundary: str = "xyz") -> bytes:
    """A body as curl writes it."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in fields
    ]
    return ("".join(parts) + f"--{boundary}--\r\n").encode()


class FieldTests(SynchronousTestCase):
    def test_names_are_folded(self) -> None:
        for name in ("CallSid", "call_sid", "callsid", "CALLSID", "Call-Sid"):
            self.assertEqual(fold(name), "callsid")

    def test_the_three_ways_are_one(self) -> None:
        expected = [("callsid", "c-1"), ("to", "é +&="), ("legs[0][status]", "busy")]
        named = (("CallSid", "c-1"), ("To", "é +&="), ("Legs[0][Status]", "busy"))
        self.assertEqual(read_fields(MULTIPART, multipart(*named)), expected)
        body = b"CallSid=c-1&To=%C3%A9+%2B%26%3D&Legs%5B0%5D%5BStatus%5D=busy"
        self.assertEqual(read_fields(FORM, body), expected)
        decoded = {"CallSid": "c-1", "To": "é +&=", "Legs": [{"Status": "busy"}]}
        self.assertEqual(read_fields("application/json", json.dumps(decoded).encode()), expected)

    def test_content_types_as_they_are_written(self) -> None:
        for kind in ("Application/JSON; charset=utf-8", "application/json;charset=x", " application/json"):
            self.assertEqual(read_fields(kind, b'{"a":"b"}'), [("a", "b")])
        for kind in (
            'multipart/form-data; boundary="x y"', 'Multipart/Form-Data; charset=utf-8; Boundary="x y"',
        ):
            self.assertEqual(read_fields(kind, multipart(("a", "b"), boundary="x y")), [("a", "b")])

    def test_what_json_may_hold(self) -> None:
        body = b'{"a":1,"b":null,"c":true,"d":1.5,"e":"","f":{"g":[2,{"h":3}]}}'
        expected = [("a", "1"), ("c", "true"), ("d", "1.5"), ("e", ""), ("f[g][0]", "2")]
        self.assertEqual(read_fields("application/json", body), expected)

    def test_nothing(self) -> None:
        for kind in ("", "text/plain", FORM):
            self.assertEqual(read_fields(kind, b""), [])
        for kind, body in (("", b" \r\n"), ("application/json", b"{}"), (MULTIPART, b"--xyz--")):
            self.assertEqual(read_fields(kind, body), [])

    def test_a_multipart_value_is_taken_as_it_is(self) -> None:
        self.assertEqual(read_fields(MULTIPART, multipart(("a", "b\r\n\r\n--xy"))), [("a", "b\r\n\r\n--xy")])

    def test_files_and_parts_without_a_name_are_left_out(self) -> None:
        body = (
            b'--xyz\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\nA\r\n'
            b"--xyz\r\nContent-Disposition: form-data\r\n\r\nB\r\n"
            b'--xyz\r\nContent-Disposition: form-data; name="c"\r\nX-Y: z\r\n\r\nC\r\n--xyz--'
        )
        self.assertEqual(read_fields(MULTIPART, body), [("c", "C")])

    def test_one_of_several_names(self) -> None:
        fields = [("callsid", "a"), ("other", ""), ("callid", "")]
        self.assertEqual(one(fields, "CallSid", "call_id"), "a")
        self.assertEqual(one(fields, "Other"), "")
        self.assertEqual(one([], "Other"), "")
        self.assertEqual(one([("a", "x"), ("a", "x")], "A"), "x")

    def test_what_is_said_twice_is_not_guessed(self) -> None:
        for name in ("callid", "callsid"):
            with self.assertRaises(BadField) as caught:
                one([("callsid", "a"), (name, "b")], "CallSid", "CallId")
            self.assertEqual(str(caught.exception), "CallSid is there twice")


class HostileTests(SynchronousTestCase):
    def test_no_json_object(self) -> None:
        deep = b'{"a":' * 10_000 + b"1" + b"}" * 10_000
        huge = b'{"a":' + b"9" * 5000 + b"}"
        for body in (b"", b"[]", b"1", b'"x"', b"null", b"{", b"\xff", b"\x00", deep, huge):
            self.assertRaises(BadJson, read_fields, "application/json", body)

    def test_too_many(self) -> None:
        count = FIELDS_MAX_COUNT + 1
        for kind, body in (
            (FORM, b"&".join([b"a=1"] * count)),
            (MULTIPART, multipart(*[("a", "1")] * count)),
            ("application/json", json.dumps({str(n): 1 for n in range(count)}).encode()),
            ("application/json", json.dumps({"a": [1] * count}).encode()),
        ):
            with self.assertRaises(BadField) as caught:
                read_fields(kind, body)
            self.assertEqual(str(caught.exception), "the body holds too many fields")

    def test_multipart_that_is_none(self) -> None:
        for kind, body in (
            ("multipart/form-data", multipart(("a", "b"))),
            ("multipart/form-data; boundary=", multipart(("a", "b"))),
            ("multipart/form-data; boundary=" + "x" * 71 + '"', b""),
            (MULTIPART, b""), (MULTIPART, b"a=b"), (MULTIPART, multipart(("a", "b"))[:-6]),
            ("multipart/form-data; boundary=other", multipart(("a", "b"))),
        ):
            self.assertRaises(BadField, read_fields, kind, body)

    def test_another_kind_of_body(self) -> None:
        for kind in ("", "text/plain", "application/xml", "application/json-seq"):
            self.assertRaises(BadField, read_fields, kind, b'{"a":"b"}')

    @settings(max_examples=300, deadline=None, database=None)
    @given(
        st.sampled_from(["application/json", FORM, MULTIPART, "", 'multipart/form-data; boundary="'])
        | st.text(max_size=30),
        st.binary(max_size=200) | st.binary(max_size=80).map(lambda middle: PART + middle + b"\r\n--xyz--"),
    )
    def test_pairs_or_an_error_of_ours(self, kind: str, body: bytes) -> None:
        try:
            fields = read_fields(kind, body)
        except VoiceIngestError as error:
            self.assertEqual(error.http_status, 400)
            return
        self.assertTrue(all(isinstance(text, str) for pair in fields for text in pair))
