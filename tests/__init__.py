"""Tests of voiceingest; the tree mirrors the package. Run with ``make test``.

Property tests take the same examples in every run, so that a run says something about the change
and not about its luck; ``EXPLORE=1 make test`` looks for new ones. How long it takes to make them is
a matter of the machine, and is not judged.

A test process has gRPC in it and starts programs: gRPC would mend its threads in every child, in the
moment before that becomes the program, and ends it where Twisted has closed its descriptors already.
"""

import os

from hypothesis import HealthCheck, settings

# Read when gRPC is imported, which no module has done yet.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

settings.register_profile("same", _PATIENT, derandomize=True, database=None)
settings.register_profile("explore", _PATIENT)
settings.load_profile("explore" if os.environ.get("EXPLORE") else "same")
