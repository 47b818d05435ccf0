"""The generated files are what the code would write now."""

from __future__ import annotations

import tomllib
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from voiceingest import reference
from voiceingest.config import Settings
from voiceingest.errors import every_error
from voiceingest.metrics import FAMILIES

ROOT = Path(__file__).resolve().parent.parent


class Reference(SynchronousTestCase):
    """``python -m voiceingest.reference``."""

    def test_no_page_is_stale(self) -> None:
        self.assertEqual(reference.stale(ROOT), [])

    def test_check_names_what_is_stale_and_writes_nothing(self) -> None:
        root = Path(self.mktemp())
        out = StringIO()
        with redirect_stdout(out):
            code = reference.main(["--check", "--root", str(root)])
        self.assertEqual(code, 1)
        self.assertEqual(out.getvalue().splitlines(), [f"stale: {path}" for path in reference.PAGES])
        self.assertFalse(root.exists())

    def test_what_was_written_is_not_stale(self) -> None:
        root = Path(self.mktemp())
        out = StringIO()
        with redirect_stdout(out):
            self.assertEqual(reference.main(["--root", str(root)]), 0)
            self.assertEqual(reference.main(["--check", "--root", str(root)]), 0)
            (root / "docs/reference/metrics.md").write_text("old")
            self.assertEqual(reference.main(["--check", "--root", str(root)]), 1)
        self.assertTrue(out.getvalue().endswith("stale: docs/reference/metrics.md\n"))

    def test_every_metric_has_its_row(self) -> None:
        page = reference.metrics_page()
        for family in FAMILIES:
            self.assertEqual(page.count(f"\n| `{family.name}` |"), 1, family.name)

    def test_every_error_code_has_its_row(self) -> None:
        page = reference.errors_page()
        for error in every_error():
            self.assertEqual(page.count(f"\n| `{error.code}` |"), 1, error.code)
        row = "| `internal` | us | 500 | 1011 | yes | yes | yes | Something went wrong on our side |"
        self.assertIn(row, page)

    def test_every_close_code_has_its_row(self) -> None:
        page = reference.errors_page()
        for code in (1000, 1001, 1002, 1007, 1009, 1011, 1013, 4400, 4401, 4403, 4408, 4409, 4429):
            self.assertEqual(page.count(f"\n| {code} |"), 1, code)

    def test_every_setting_has_its_row(self) -> None:
        page = reference.PAGES["docs/reference/settings.md"]()
        for name in Settings.model_fields:
            self.assertEqual(page.count(f"\n| `{name}` | `{name.upper()}` |"), 1, name)

    def test_the_default_file_is_the_defaults(self) -> None:
        text = reference.PAGES["deploy/voiceingest.toml"]()
        self.assertEqual(tomllib.loads(text), {})
        uncommented = tomllib.loads(
            "\n".join(
                line[1:] for line in text.splitlines() if line.startswith("#") and not line.startswith("# ")
            )
        )
        self.assertEqual(set(uncommented), set(Settings.model_fields))
        set_values = {name: value for name, value in uncommented.items() if value != ""}
        self.assertEqual(Settings.model_validate(set_values), Settings())
