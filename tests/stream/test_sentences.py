"""Sentences out of a text that is still being written."""

from __future__ import annotations

import itertools

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.case import SynchronousTestCase
from voiceingest.stream.sentences import Sentences

FEW = settings(max_examples=300, deadline=None)
TEXTS = st.text(st.sampled_from("ab Z5.,!?…। \n*#`\"'-é👍Dr:"), max_size=120)


def cut(text: str, max_chars: int = 300) -> list[str]:
    sentences = Sentences(max_chars)
    return sentences.feed(text) + sentences.flush()


def words(text: str) -> str:
    """What is left when everything but letters and digits is away."""
    return "".join(filter(str.isalnum, text))


class TableTests(SynchronousTestCase):
    def test_ends(self) -> None:
        for text, pieces in (
            ("Hello. How are you? Fine!", ["Hello.", "How are you?", "Fine!"]),
            ("Well... I see. Really?! Yes", ["Well...", "I see.", "Really?!", "Yes"]),
            ("Wait… what", ["Wait…", "what"]),
            ("He said \"no.\" Then he left.", ["He said \"no.\"", "Then he left."]),
            ("(Yes.) (No!) Good.", ["(Yes.)", "(No!)", "Good."]),
            ("नमस्ते। आप कैसे हैं? ठीक।हाँ", ["नमस्ते।", "आप कैसे हैं?", "ठीक।", "हाँ"]),
            ("你好。再见\uff01", ["你好。", "再见\uff01"]),
            ("One\nTwo\r\n\n  three", ["One", "Two", "three"]),
            ("", []),
            ("... \n — ! 👍", []),
        ):
            self.assertEqual(cut(text), pieces)

    def test_what_is_no_end(self) -> None:
        for text in (
            "Dr. Rao and Mr. Das vs. Mrs. Sen.",
            "It is 3.5 percent or 1,000.50 rupees.",
            "Bring papers, e.g. a bill, i.e. proof.",
            "Take No. 5 or fig. 2 for Rs. 500.",
            "See https://example.com/a.b?c=d!e for more.",
            "Write to me.you@example.com now.",
            "J. R. Tata flew.",
            "We open at 9 a.m. and close at 5 p.m. on Sundays.",
            "Version 2.0.1 of node.js is out.",
            "1. First of all.",
        ):
            self.assertEqual(cut(text), [text])

    def test_abbreviations_at_an_end(self) -> None:
        for text, pieces in (
            ("No. We are closed.", ["No.", "We are closed."]),
            ("No. 5 is free.", ["No. 5 is free."]),
            ("We close at 5 p.m. Call again.", ["We close at 5 p.m.", "Call again."]),
            ("Tea, milk, etc. \"Fine\" he said", ["Tea, milk, etc.", "\"Fine\" he said"]),
            ("So do I. You too.", ["So do I.", "You too."]),
            ("It costs 5. Is that fine?", ["It costs 5.", "Is that fine?"]),
            ("1. Open it.\n2. Close it.", ["1. Open it.", "2. Close it."]),
        ):
            self.assertEqual(cut(text), pieces)

    def test_marks(self) -> None:
        text = "# Title\n**Bold** and `code`. Or not\n## Yes"
        self.assertEqual(cut(text), ["Title", "Bold and code.", "Or not", "Yes"])
        self.assertEqual(cut("Room #5, please."), ["Room #5, please."])

    def test_a_long_first_piece_ends_at_a_comma_and_later_ones_do_not(self) -> None:
        long = "If you would like to change your booking, please tell me the day, and the time, and the name."
        first, rest = "If you would like to change your booking,", long[42:]
        self.assertEqual(cut(long), [first, rest])
        self.assertEqual(cut("Sure. " + long), ["Sure.", long])
        self.assertEqual(cut("Well, yes, no, yes."), ["Well, yes, no, yes."])

    def test_bounds(self) -> None:
        self.assertEqual(cut("aa bb cc dd", 6), ["aa bb", "cc dd"])
        self.assertEqual(cut("aaaa, bb cc", 9), ["aaaa, bb", "cc"])
        self.assertEqual(cut("aaaaaa, b c", 9), ["aaaaaa,", "b c"])
        self.assertEqual(cut("abcdefgh", 3), ["abc", "def", "gh"])


class EarlinessTests(SynchronousTestCase):
    def test_a_sentence_is_given_with_the_white_space_after_it(self) -> None:
        sentences = Sentences()
        self.assertEqual(sentences.feed("Hello"), [])
        self.assertEqual(sentences.feed("."), [])
        self.assertEqual(sentences.feed(" "), ["Hello."])
        self.assertEqual(sentences.feed("Is it 5 p.m. "), [])
        self.assertEqual(sentences.feed("T"), ["Is it 5 p.m."])
        self.assertEqual(sentences.feed("ea?\n"), ["Tea?"])
        self.assertEqual(sentences.flush(), [])

    def test_after_a_flush_it_begins_anew(self) -> None:
        sentences = Sentences()
        sentences.feed("Hello. You")
        self.assertEqual(sentences.flush(), ["You"])
        self.assertEqual(sentences.feed("# Then. "), ["Then."])


class PropertyTests(SynchronousTestCase):
    @FEW
    @given(TEXTS, st.integers(1, 40))
    @example("No. ab", 2)
    def test_nothing_is_lost_or_moved_and_no_piece_is_too_long(self, text: str, max_chars: int) -> None:
        pieces = cut(text, max_chars)
        self.assertEqual(words("".join(pieces)), words(text))
        for piece in pieces:
            self.assertLessEqual(len(piece), max_chars)
            self.assertTrue(words(piece))
            self.assertEqual(piece, " ".join(piece.split()))
            self.assertFalse(set(piece) & set("*`\n"))

    @FEW
    @given(TEXTS, st.lists(st.integers(0, 120), max_size=6))
    def test_the_pieces_do_not_depend_on_how_the_text_came(self, text: str, cuts: list[int]) -> None:
        sentences = Sentences()
        edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
        parts = [text[first:last] for first, last in itertools.pairwise(edges)]
        pieces = [piece for part in parts for piece in sentences.feed(part)]
        self.assertEqual([*pieces, *sentences.flush()], cut(text))
