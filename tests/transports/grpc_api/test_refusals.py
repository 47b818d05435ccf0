"""Which status an error is told as: every error there is has one."""

from __future__ import annotations

from grpc import StatusCode

from tests.support.case import SynchronousTestCase
from voiceingest import errors
from voiceingest.transports.grpc_api.refusals import status_of


class StatusTests(SynchronousTestCase):
    def test_the_table(self) -> None:
        for error, status in (
            (errors.BadField, StatusCode.INVALID_ARGUMENT),
            (errors.ContextTooBig, StatusCode.INVALID_ARGUMENT),
            (errors.Unauthenticated, StatusCode.UNAUTHENTICATED),
            (errors.TokenExpired, StatusCode.UNAUTHENTICATED),
            (errors.TokenRevoked, StatusCode.UNAUTHENTICATED),
            (errors.DeviceRevoked, StatusCode.PERMISSION_DENIED),
            (errors.SessionNotFound, StatusCode.NOT_FOUND),
            (errors.IllegalMove, StatusCode.FAILED_PRECONDITION),
            (errors.IdempotencyMismatch, StatusCode.FAILED_PRECONDITION),
            (errors.EditConflict, StatusCode.ABORTED),
            (errors.TooManyRequests, StatusCode.RESOURCE_EXHAUSTED),
            (errors.TooManySessions, StatusCode.RESOURCE_EXHAUSTED),
            (errors.StoreUnavailable, StatusCode.UNAVAILABLE),
            (errors.Draining, StatusCode.UNAVAILABLE),
            (errors.InternalError, StatusCode.INTERNAL),
        ):
            self.assertEqual(status_of(error()), status, error.code)

    def test_no_error_is_told_as_well(self) -> None:
        for error in errors.every_error():
            made = error(["x"]) if error is errors.SettingsError else error()
            self.assertNotIn(status_of(made), (StatusCode.OK, StatusCode.UNKNOWN), error.code)
