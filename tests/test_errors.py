"""The tree of errors: complete, consistent, and silent about what the peer sent."""

from __future__ import annotations

import re
from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from voiceingest import errors
from voiceingest.errors import (
    DownstreamError,
    Fault,
    InternalError,
    OddFrame,
    OperatorError,
    PeerError,
    SettingsError,
    VoiceIngestError,
    every_error,
)

ALL = list(every_error())

# Contract section 9, RFC 6455 section 7.4 and the IANA registry.
CLOSE_CODES = {1001, 1009, 1011, 1013, 4400, 4401, 4403, 4408, 4409, 4429}
HTTP_STATUSES = {400, 401, 403, 404, 405, 408, 409, 413, 422, 426, 429, 431, 500, 502, 503}


def made(error: type[VoiceIngestError]) -> VoiceIngestError:
    """One of its kind, with its default text."""
    return SettingsError(["port: too big"]) if error is SettingsError else error()


class Tree(SynchronousTestCase):
    """What holds for every leaf."""

    def test_every_class_of_the_module_is_in_it_once(self) -> None:
        classes = [
            value
            for value in vars(errors).values()
            if isinstance(value, type) and issubclass(value, VoiceIngestError)
        ]
        self.assertEqual(Counter(ALL), Counter(classes))

    def test_parents_come_first(self) -> None:
        for place, error in enumerate(ALL[1:], 1):
            self.assertIn(error.__bases__[0], ALL[:place])

    def test_a_part_of_it_can_be_asked_for(self) -> None:
        self.assertIs(next(every_error(OperatorError)), OperatorError)
        self.assertNotIn(PeerError, list(every_error(OperatorError)))

    def test_no_two_share_a_code(self) -> None:
        """But for ``internal``, which the root has for the same thing."""
        counted = Counter(error.code for error in ALL if error is not InternalError)
        self.assertEqual([code for code, count in counted.items() if count > 1], [])

    def test_codes_are_short_words_that_fit_into_a_close_frame(self) -> None:
        for error in ALL:
            self.assertTrue(re.fullmatch(r"[a-z][a-z0-9_]{2,40}", error.code), error.code)

    def test_close_codes_are_those_of_the_contract(self) -> None:
        for error in ALL:
            self.assertIn(error.close_code, CLOSE_CODES, error.code)

    def test_http_statuses_are_known(self) -> None:
        for error in ALL:
            self.assertIn(error.http_status, HTTP_STATUSES, error.code)

    def test_the_fault_follows_from_the_branch(self) -> None:
        faults = {PeerError: Fault.PEER, DownstreamError: Fault.DOWNSTREAM, OperatorError: Fault.OPERATOR}
        for branch, fault in faults.items():
            self.assertEqual({error.fault for error in every_error(branch)}, {fault})

    def test_the_peers_fault_is_4xx_and_ours_is_5xx(self) -> None:
        for error in ALL:
            self.assertEqual(error.http_status < 500, error.fault is Fault.PEER, error.code)

    def test_the_close_code_and_the_status_say_the_same(self) -> None:
        same = {
            4401: {401},
            4403: {403},
            4408: {408},
            4409: {409},
            4429: {429},
            1009: {413},
            1001: {503},
            1013: {502, 503},
        }
        for error in ALL:
            if error.close_code in same:
                self.assertIn(error.http_status, same[error.close_code], error.code)

    def test_a_stream_that_goes_on_goes_on_only_after_the_peers_errors(self) -> None:
        for error in ALL:
            self.assertTrue(error.closes or error.fault is Fault.PEER, error.code)

    def test_which_errors_a_stream_survives(self) -> None:
        survived = {error.code for error in ALL if not error.closes}
        self.assertEqual(
            survived,
            {
                "bad_message",
                "bad_json",
                "unknown_event",
                "bad_field",
                "unsupported_audio",
                "bad_audio",
                "odd_frame",
                "empty_frame",
                "not_started",
                "already_started",
                "resume_refused",
                "resume_expired",
                "already_stopped",
                "token_refused",
            },
        )

    def test_who_may_come_back_with_the_same_request(self) -> None:
        """A client that obeys the flag neither hammers in vain nor gives up on what passes."""
        for code in ("unauthorized", "forbidden", "bad_json", "frame_too_big", "replaced"):
            self.assertFalse(self.one(code).retryable, code)
        for code in (
            "draining",
            "too_many_connections",
            "rate_limited",
            "flush_timeout",
            "idle_timeout",
            "internal",
        ):
            self.assertTrue(self.one(code).retryable, code)

    def one(self, code: str) -> type[VoiceIngestError]:
        """The class with ``code``."""
        return next(error for error in ALL if error.code == code)


class Texts(SynchronousTestCase):
    """What people read."""

    def test_each_has_one_of_its_own_in_one_line(self) -> None:
        texts = Counter(error.default_message() for error in ALL)
        self.assertEqual([text for text, count in texts.items() if count > 1], [])
        for error in ALL:
            self.assertEqual(len((error.__doc__ or "").strip().splitlines()), 1, error)

    def test_they_are_sentences_without_the_full_stop(self) -> None:
        for error in ALL:
            text = error.default_message()
            self.assertTrue(text[0].isupper() and not text.endswith("."), text)
            self.assertTrue(text.isascii() and len(text) <= 100, text)

    def test_the_message_is_the_default_or_what_was_given(self) -> None:
        for error in ALL:
            one = made(error)
            self.assertEqual(one.message, str(one))
            if error is not SettingsError:
                self.assertEqual(one.message, error.default_message())
                self.assertEqual(error("other words").message, "other words")

    def test_settings_errors_have_a_line_for_each_problem(self) -> None:
        error = SettingsError(["port: too big", "listen: no"])
        self.assertEqual(error.problems, ("port: too big", "listen: no"))
        self.assertEqual(error.message, "port: too big\nlisten: no")

    def test_without_docstrings_the_code_is_the_text(self) -> None:
        """As under ``python -OO``."""
        self.patch(OddFrame, "__doc__", None)
        self.assertEqual(OddFrame().message, "odd_frame")
