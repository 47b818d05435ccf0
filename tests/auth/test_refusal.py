from __future__ import annotations

from tests.support.case import SynchronousTestCase
from voiceingest.auth.refusal import attempt_status, refusal
from voiceingest.errors import Unauthenticated


class RefusalTests(SynchronousTestCase):
    def test_one_text_and_code_for_every_reason(self) -> None:
        texts = {(str(refusal(reason)), refusal(reason).code) for reason in ("expired", "missing", "typ")}
        self.assertEqual(texts, {("A valid bearer token is required", "unauthorized")})

    def test_the_reason_travels_beside_the_text(self) -> None:
        error = refusal("which_key")
        self.assertIs(type(error), Unauthenticated)
        self.assertEqual(error.reason, "which_key")

    def test_status_is_one_of_the_few(self) -> None:
        statuses = [attempt_status(refusal(reason)) for reason in ("missing", "expired", "audience", "crit")]
        self.assertEqual(statuses, ["missing", "expired", "invalid", "invalid"])

    def test_a_refusal_made_elsewhere_is_invalid(self) -> None:
        self.assertEqual(Unauthenticated().reason, "invalid")
        self.assertEqual(attempt_status(Unauthenticated()), "invalid")
