from __future__ import annotations

from tests.support.case import SynchronousTestCase
from tests.support.daemon import ROOT
from voiceingest.cli.manual import page
from voiceingest.cli.tree import COMMANDS


class ManualTests(SynchronousTestCase):
    def test_every_command_is_in_it(self) -> None:
        text = page()
        for name in COMMANDS:
            self.assertIn(f"\n## voiceingest {name}", text)
        self.assertNotIn("\b", text)

    def test_the_page_in_the_repository_is_not_stale(self) -> None:
        written = (ROOT / "docs" / "reference" / "cli.md").read_text()
        self.assertEqual(written, page(), "python -m voiceingest.reference")
