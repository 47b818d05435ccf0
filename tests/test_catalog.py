"""Every line of the tables leads somewhere."""

from __future__ import annotations

from typing import get_args

from twisted.trial.unittest import SynchronousTestCase

from voiceingest import catalog
from voiceingest.config.settings import PublishScheme
from voiceingest.transports.ingest_ws import IngestTransport


class Tables(SynchronousTestCase):
    """``name -> "module:factory"``."""

    def test_every_entry_can_be_loaded_and_called(self) -> None:
        for table in (catalog.BUSES, catalog.TRANSPORTS):
            for name, entry in table.items():
                self.assertTrue(callable(catalog.load(entry)), name)

    def test_there_is_a_bus_for_every_scheme_of_the_settings_and_no_other(self) -> None:
        self.assertEqual(set(catalog.BUSES), set(get_args(PublishScheme)))

    def test_a_transport_is_listed_under_its_own_name(self) -> None:
        for name, entry in catalog.TRANSPORTS.items():
            self.assertEqual(catalog.load(entry).name, name)  # type: ignore[attr-defined]

    def test_no_two_transports_share_a_path(self) -> None:
        paths = [catalog.load(entry).path for entry in catalog.TRANSPORTS.values()]  # type: ignore[attr-defined]
        self.assertEqual(len(paths), len(set(paths)))


class Loading(SynchronousTestCase):
    """What an entry names."""

    def test_it_is_the_thing_itself(self) -> None:
        self.assertIs(catalog.load("voiceingest.transports.ingest_ws:IngestTransport"), IngestTransport)

    def test_what_is_not_there_is_an_error_with_its_name(self) -> None:
        error = self.assertRaises(ImportError, catalog.load, "voiceingest.no_such_module:Thing")
        self.assertIn("no_such_module", str(error))
        missing = self.assertRaises(AttributeError, catalog.load, "voiceingest.catalog:NoSuchThing")
        self.assertIn("NoSuchThing", str(missing))
