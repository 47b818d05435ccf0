"""Deepgram's messages: ours and the fake's against the types that Deepgram publishes; any bytes."""

from __future__ import annotations

import json
from inspect import signature
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from deepgram.listen.v1.client import AsyncV1Client
from deepgram.listen.v1.types import (
    ListenV1CloseStream,
    ListenV1Error,
    ListenV1Finalize,
    ListenV1KeepAlive,
    ListenV1Metadata,
    ListenV1Results,
    ListenV1SpeechStarted,
    ListenV1UtteranceEnd,
)
from deepgram.listen.v1.types.listen_v1results_channel import ListenV1ResultsChannel
from deepgram.listen.v1.types.listen_v1results_channel_alternatives_item import (
    ListenV1ResultsChannelAlternativesItem,
)
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.support.case import SynchronousTestCase
from tests.support.deepgram import FakeDeepgram, Session
from voiceingest.config import Settings
from voiceingest.errors import BadField, BadJson
from voiceingest.limits import TRANSCRIPT_MAX_CHARS
from voiceingest.wire.deepgram import (
    CLOSE_STREAM,
    FINALIZE,
    KEEP_ALIVE,
    Failed,
    Metadata,
    Results,
    SpeechStarted,
    Unknown,
    UtteranceEnd,
    decode,
    is_refusal,
    listen_url,
)

RESULTS: dict[str, Any] = {
    "type": "Results",
    "channel_index": [0, 1],
    "start": 1.2,
    "duration": 1.5,
    "is_final": True,
    "speech_final": True,
    "from_finalize": False,
    "channel": {
        "alternatives": [
            {
                "transcript": "hello",
                "confidence": 0.98,
                "languages": ["en"],
                "words": [{"word": "hello", "start": 1.3, "end": 1.7, "confidence": 0.98}],
            }
        ]
    },
    "metadata": {
        "request_id": "r1",
        "model_uuid": "m1",
        "model_info": {"name": "general", "version": "v", "arch": "nova-3"},
    },
}
SPEECH_STARTED = {"type": "SpeechStarted", "channel": [0, 1], "timestamp": 9.5}
UTTERANCE_END = {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": 3.1}
METADATA = {
    "type": "Metadata",
    "transaction_key": "deprecated",
    "request_id": "r1",
    "sha256": "0",
    "created": "2026-01-01T00:00:00Z",
    "duration": 12.3,
    "channels": 1,
}
VALUES = st.none() | st.booleans() | st.floats() | st.text()
ERROR = {"type": "Error", "variant": "SchemaError", "description": "cannot parse"}


def said(message: Any) -> bytes:
    """A message as bytes."""
    return json.dumps(message).encode()


def results(**changes: Any) -> bytes:
    """``RESULTS`` with some fields changed; those of the alternative are in it."""
    best = {**RESULTS["channel"]["alternatives"][0]}
    best |= {name: changes.pop(name) for name in ("transcript", "confidence") if name in changes}
    return said({**RESULTS, "channel": {"alternatives": [best]}, **changes})


class DecodeTests(SynchronousTestCase):
    def test_each_message(self) -> None:
        for message, expected in (
            (RESULTS, Results("hello", 1.2, 1.5, True, True, False, 0.98)),
            (SPEECH_STARTED, SpeechStarted(9.5)),
            (UTTERANCE_END, UtteranceEnd(3.1)),
            (METADATA, Metadata("r1", 12.3)),
            (ERROR, Failed("cannot parse")),
            ({"type": "ConfigureSuccess", "request_id": "r1"}, Unknown("ConfigureSuccess")),
        ):
            self.assertEqual(decode(said(message)), expected)

    def test_what_may_be_absent(self) -> None:
        bare = {name: RESULTS[name] for name in ("type", "start", "duration", "channel")}
        self.assertEqual(decode(said(bare)), Results("hello", 1.2, 1.5, False, False, False, 0.98))
        nulls = results(is_final=None, speech_final=None, from_finalize=None)
        self.assertEqual(decode(nulls), decode(said(bare)))
        nothing = said({**RESULTS, "channel": {"alternatives": []}})
        self.assertEqual(decode(nothing), Results("", 1.2, 1.5, True, True, False, 0.0))

    def test_no_word_was_heard(self) -> None:
        self.assertEqual(decode(said({**UTTERANCE_END, "last_word_end": -1})), UtteranceEnd(0.0))

    def test_what_makes_no_sense(self) -> None:
        for payload in (b"", b"\xff", b"[]", b"1", b"[" * 100_000, b'{"type":"Results"'):
            self.assertRaises(BadJson, decode, payload)
        for payload in (
            said({}),
            said({"type": 1}),
            said({"type": "x" * 1025}),
            results(start=-1),
            results(start="1"),
            results(start=True),
            results(duration=None),
            said(RESULTS).replace(b"1.2,", b"NaN,"),
            said(RESULTS).replace(b"1.2,", b"1e999,"),
            said(RESULTS).replace(b"1.2,", b"1" * 400 + b","),
            results(is_final=1),
            results(channel={}),
            results(channel={"alternatives": [1]}),
            results(transcript=None),
            results(transcript="x" * (TRANSCRIPT_MAX_CHARS + 1)),
            results(confidence="high"),
            said({**METADATA, "request_id": None}),
            said({**SPEECH_STARTED, "timestamp": -1}),
        ):
            self.assertRaises(BadField, decode, payload)

    def test_confidence_is_a_share(self) -> None:
        answers = [decode(results(confidence=value)) for value in (-0.5, 1.5)]
        self.assertEqual([answer.confidence for answer in answers if isinstance(answer, Results)], [0.0, 1.0])

    @given(st.binary() | st.recursive(VALUES, st.lists).map(said))
    def test_nothing_else_escapes(self, payload: bytes) -> None:
        try:
            decode(payload)
        except (BadJson, BadField):
            return

    @given(st.dictionaries(st.sampled_from(list(RESULTS)), VALUES))
    def test_nothing_else_escapes_from_fields(self, changes: dict[str, Any]) -> None:
        try:
            decode(results(**changes))
        except (BadJson, BadField):
            return


class PublishedTypesTests(SynchronousTestCase):
    """``deepgram-sdk`` is made from Deepgram's own definition of its interface."""

    def test_what_we_read_is_what_they_define(self) -> None:
        for model, fields in (
            (ListenV1Results, {"start", "duration", "is_final", "speech_final", "from_finalize", "channel"}),
            (ListenV1ResultsChannel, {"alternatives"}),
            (ListenV1ResultsChannelAlternativesItem, {"transcript", "confidence", "words"}),
            (ListenV1SpeechStarted, {"timestamp"}),
            (ListenV1UtteranceEnd, {"last_word_end"}),
            (ListenV1Metadata, {"request_id", "duration"}),
            (ListenV1Error, {"description", "variant"}),
        ):
            self.assertLessEqual(fields, set(model.model_fields), model)

    def test_the_samples_above_are_theirs(self) -> None:
        for model, message in (
            (ListenV1Results, RESULTS),
            (ListenV1SpeechStarted, SPEECH_STARTED),
            (ListenV1UtteranceEnd, UTTERANCE_END),
            (ListenV1Metadata, METADATA),
            (ListenV1Error, ERROR),
        ):
            self.assertEqual(model.model_validate(message).type, message["type"])
            # Else the line above would say nothing.
            least = {name: value for name, value in message.items() if name == "type"}
            self.assertRaises(ValidationError, model.model_validate, least)

    def test_what_we_say_is_theirs(self) -> None:
        for model, payload in (
            (ListenV1KeepAlive, KEEP_ALIVE),
            (ListenV1Finalize, FINALIZE),
            (ListenV1CloseStream, CLOSE_STREAM),
        ):
            told = model.model_validate(json.loads(payload))
            self.assertEqual(json.loads(payload), {"type": told.type})

    def test_what_we_ask_for_is_theirs(self) -> None:
        asked = {name for name, _ in parse_qsl(urlsplit(listen_url(Settings(), 8000)).query)}
        self.assertLessEqual(asked, set(signature(AsyncV1Client.connect).parameters))

    def test_what_the_fake_says_is_theirs(self) -> None:
        session = Session(FakeDeepgram(self))  # type: ignore[arg-type]
        session._server.sessions.append(session)
        session.query = {"sample_rate": "8000"}
        flags = {"is_final": True, "speech_final": False, "from_finalize": False}
        message = session.results(0, 8000, "1..50", **flags)
        told = ListenV1Results.model_validate(message)
        self.assertEqual((told.start, told.duration, told.is_final), (0.0, 1.0, True))
        self.assertEqual(set(message), set(ListenV1Results.model_fields) - {"entities"})
        account = session.metadata()
        self.assertEqual(set(account), set(ListenV1Metadata.model_fields))
        ListenV1Metadata.model_validate(account)


class AskTests(SynchronousTestCase):
    def test_the_address(self) -> None:
        settings = Settings(deepgram_model="nova-2", deepgram_language="hi", deepgram_endpointing_ms=400)
        parts = urlsplit(listen_url(settings, 16000))
        self.assertEqual((parts.scheme, parts.netloc, parts.path), ("wss", "api.deepgram.com", "/v1/listen"))
        expected = {
            "model": "nova-2",
            "language": "hi",
            "encoding": "linear16",
            "sample_rate": "16000",
            "channels": "1",
            "interim_results": "true",
            "endpointing": "400",
            "utterance_end_ms": "1000",
            "vad_events": "true",
            "smart_format": "true",
            "punctuate": "true",
        }
        self.assertEqual(dict(parse_qsl(parts.query)), expected)

    def test_the_scheme_is_a_websockets(self) -> None:
        for given_url, expected in (
            ("https://dg.example.com/v1/listen", "wss://dg.example.com/v1/listen"),
            ("http://127.0.0.1:8080/v1/listen", "ws://127.0.0.1:8080/v1/listen"),
            ("ws://127.0.0.1:8080/http", "ws://127.0.0.1:8080/http"),
        ):
            url = listen_url(Settings(deepgram_url=given_url), 8000)
            self.assertEqual(url.partition("?")[0], expected)

    def test_a_model_cannot_add_to_the_query(self) -> None:
        query = urlsplit(listen_url(Settings(deepgram_model="a&callback=x#"), 8000)).query
        self.assertEqual(dict(parse_qsl(query))["model"], "a&callback=x#")

    def test_what_is_of_no_use_to_try_again(self) -> None:
        for http_status, close_code, expected in (
            (400, None, True),
            (401, None, True),
            (402, None, True),
            (403, None, True),
            (404, None, True),
            (408, None, False),
            (429, None, False),
            (500, None, False),
            (503, None, False),
            (200, None, False),
            (None, 1008, True),
            (None, 1011, False),
            (None, 1000, False),
            (None, None, False),
        ):
            self.assertIs(is_refusal(http_status, close_code), expected, (http_status, close_code))
