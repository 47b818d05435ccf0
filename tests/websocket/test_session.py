"""The seam to the dialects."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from voiceingest.errors import RateLimited
from voiceingest.websocket.session import GONE, SocketRules


class Gone(SynchronousTestCase):
    """What takes the place of a session that has ended."""

    def test_it_takes_everything_and_says_nothing(self) -> None:
        """A late call after the end is harmless."""
        GONE.opened()
        GONE.text(b"{}")
        GONE.binary(b"ab")
        GONE.refused(RateLimited())
        GONE.lost(1006)


class Rules(SynchronousTestCase):
    """The defaults."""

    def test_nothing_is_without_bound(self) -> None:
        """Every rule is on unless the settings say 0."""
        rules = SocketRules()
        for name in rules.__dataclass_fields__:
            self.assertGreater(getattr(rules, name), 0, name)
