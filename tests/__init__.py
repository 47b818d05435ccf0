"""Tests of voiceingest; the tree mirrors the package. Run with ``make test``.

Property tests take the same examples in every run, so that a run says something about the change
and not about its luck; ``EXPLORE=1 make test`` looks for new ones.
"""

import os

from hypothesis import settings

settings.register_profile("same", derandomize=True, deadline=None, database=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("explore" if os.environ.get("EXPLORE") else "same")
