"""What protoc has written is what the proto file says, and the proto file says what everything is for."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from typing import Final

from tests.support.case import SynchronousTestCase
from tests.test_layout import ROOT

PROTO: Final = ROOT / "proto" / "session.proto"

# Whatever may be asked for: a service, a call, a message, a field, an enum or one of its values.
_NAMED: Final = re.compile(r"^ *(?:service|rpc|message|enum|repeated|([a-zA-Z.0-9]+ \w+|[A-Z_]+) = \d+;)")


class GeneratedTests(SynchronousTestCase):
    def test_it_is_not_stale(self) -> None:
        command = [sys.executable, str(ROOT / "proto" / "generate.py"), "--check"]
        checked = subprocess.run(command, capture_output=True, text=True, check=False)
        self.assertEqual((checked.returncode, checked.stderr), (0, ""))

    def test_everything_has_a_comment(self) -> None:
        lines = PROTO.read_text().splitlines()
        bare = [
            line
            for before, line in itertools.pairwise(lines)
            if _NAMED.match(line) and not before.strip().startswith("//")
        ]
        self.assertEqual(bare, [])
        self.assertGreater(sum(bool(_NAMED.match(line)) for line in lines), 40)
