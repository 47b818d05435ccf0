"""Tests of voiceingest; the tree mirrors the package. Run with ``make test``.

Property tests take the same examples in every run, so that a run says something about the change
and not about its luck; ``EXPLORE=1 make test`` looks for new ones. How long it takes to make them is
a matter of the machine, and is not judged.
"""

import os

from hypothesis import HealthCheck, settings

_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

settings.register_profile("same", _PATIENT, derandomize=True, database=None)
settings.register_profile("explore", _PATIENT)
settings.load_profile("explore" if os.environ.get("EXPLORE") else "same")
