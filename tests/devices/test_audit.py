from __future__ import annotations

from twisted.logger import LogEvent, globalLogPublisher

from tests.devices.case import DevicesCase
from tests.support.case import SynchronousTestCase
from voiceingest.devices.audit import audit
from voiceingest.errors import DeviceUnproven, RefreshReused

# What twisted.logger, and what reads its events for stdlib logging, put into every event.
_OWN = {"isError", "message", "system", "time", "format"}


def fields(event: LogEvent) -> dict[str, object]:
    """What an event says beside that."""
    return {name: value for name, value in event.items() if name not in _OWN and not name.startswith("log_")}


class AuditTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    def test_a_line(self) -> None:
        audit("device_registered", "dev_1", "fam_1")
        audit("registration_refused")
        known = {"event": "audit", "action": "device_registered", "device_id": "dev_1", "family_id": "fam_1"}
        self.assertEqual(
            [fields(event) for event in self.events],
            [known, {"event": "audit", "action": "registration_refused"}],
        )
        self.assertEqual({event["log_format"] for event in self.events}, {"audit: {action}"})


class NothingSecretTests(DevicesCase):
    """A whole life of a device, and what of it stands in the log."""

    def setUp(self) -> None:
        super().setUp()
        self.events: list[LogEvent] = []
        globalLogPublisher.addObserver(self.events.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.events.append)

    async def test_a_life(self) -> None:
        name = "serial-number-7"
        first = await self.ask(self.devices.register(name, None, None))
        second = await self.ask(self.devices.refresh(first.refresh_token))
        with self.assertRaises(RefreshReused):
            await self.ask(self.devices.refresh(first.refresh_token))
        with self.assertRaises(DeviceUnproven):
            await self.ask(self.devices.register(name, None, None))
        third = await self.ask(self.devices.register(name, first.device_token, None))
        await self.ask(self.devices.revoke(await self.ask(self.devices.authenticate(third.access_token))))
        device_id = next(iter(self.store.by_id))
        await self.ask(self.devices.revoke_device(device_id))
        audited = [event for event in self.events if event.get("event") == "audit"]
        self.assertEqual(
            [event["action"] for event in audited],
            ["device_registered", "tokens_refreshed", "refresh_reused", "registration_refused",
             "device_proved", "tokens_revoked", "device_revoked"],
        )
        self.assertEqual({event["device_id"] for event in audited}, {device_id})
        secrets = [name] + [
            text
            for tokens in (first, second, third)
            for text in (tokens.device_token, tokens.access_token, tokens.refresh_token, tokens.user_id)
            if text
        ]
        written = repr([fields(event) for event in audited])
        self.assertEqual([secret for secret in secrets if secret in written], [])
