"""The page of gRPC: every call, message and field of the proto file is on it."""

from __future__ import annotations

import re

from tests.support.case import SynchronousTestCase
from voiceingest.transports.grpc_api import manual


class PageTests(SynchronousTestCase):
    def test_everything_is_on_it(self) -> None:
        text, page = manual.PROTO.read_text(), manual.page()
        for name in re.findall(r"(?:service|message|enum|rpc) (\w+)", text):
            self.assertIn(name, page)
        fields = re.findall(r"(\w+) = \d+;", text)
        self.assertEqual(sum(len(block.rows) for block in manual.blocks(text)[1]), len(fields) + 5)

    def test_what_is_made_of_a_small_file(self) -> None:
        head, found = manual.blocks(
            "// About it,\n// in two lines.\nsyntax = \"proto3\";\n\n// A thing.\nmessage Thing {\n"
            "  // Its name | label.\n  repeated google.protobuf.Struct name = 3;\n}\n"
            "// Kinds.\nenum Kind {\n  // None.\n  NONE = 0;\n}\n"
        )  # fmt: skip
        self.assertEqual(head, "About it, in two lines.")
        self.assertEqual([(block.kind, block.name, block.text) for block in found], [
            ("message", "Thing", "A thing."), ("enum", "Kind", "Kinds."),
        ])  # fmt: skip
        kind = "`repeated google.protobuf.Struct`"
        self.assertEqual(found[0].rows, [("3", "`name`", kind, "Its name | label.")])
        self.assertEqual(found[1].rows, [("0", "`NONE`", "None.")])
