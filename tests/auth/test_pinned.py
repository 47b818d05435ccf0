from __future__ import annotations

from tests.support.case import SynchronousTestCase
from tests.support.tokens import Issuer
from voiceingest.auth.keys import KeySet
from voiceingest.auth.pinned import PinnedKeys
from voiceingest.errors import BadKey

ONE, OTHER = Issuer("one"), Issuer("two")
RS256 = frozenset({"RS256"})


class PinnedKeysTests(SynchronousTestCase):
    def loaded(self, keys: KeySet | None) -> object:
        assert keys is not None
        return keys.choose(None, "RS256")

    def test_no_key(self) -> None:
        source = PinnedKeys(RS256)
        source.reload()
        self.assertEqual((source.keys, source.ready), (None, "no_key"))

    def test_text(self) -> None:
        source = PinnedKeys(RS256, ONE.public_pem.replace("\n", "\\n"))
        source.start()
        source.reload()
        self.assertEqual((self.loaded(source.keys), source.ready), (ONE.key.public_key(), None))
        self.assertIsNone(source.newer_keys())
        self.assertIsNone(self.successResultOf(source.stop()))

    def test_an_empty_text_is_a_mistake_and_not_no_key(self) -> None:
        self.assertRaises(BadKey, PinnedKeys, RS256, "")

    def test_the_file_goes_before_the_text_and_is_read_again(self) -> None:
        path = self.mktemp_path()
        path.write_text(ONE.public_pem)
        source = PinnedKeys(RS256, OTHER.public_pem, path)
        self.assertEqual(self.loaded(source.keys), ONE.key.public_key())
        path.write_text(OTHER.public_pem)
        self.assertEqual(self.loaded(source.keys), ONE.key.public_key())
        source.reload()
        self.assertEqual(self.loaded(source.keys), OTHER.key.public_key())

    def test_a_broken_file_keeps_the_old_key(self) -> None:
        path = self.mktemp_path()
        path.write_text(ONE.public_pem)
        source = PinnedKeys(RS256, None, path)
        for content in (b"", b"nonsense", b"\xff" * 10, ONE.public_pem.encode() + b"#" * 65536):
            path.write_bytes(content)
            self.assertRaises(BadKey, source.reload)
            self.assertEqual(self.loaded(source.keys), ONE.key.public_key())
        path.unlink()
        self.assertIn("No such file", str(self.assertRaises(BadKey, source.reload)))
        self.assertEqual((self.loaded(source.keys), source.ready), (ONE.key.public_key(), None))

    def test_a_broken_file_fails_the_start(self) -> None:
        self.assertRaises(BadKey, PinnedKeys, RS256, None, self.mktemp_path())
        self.assertRaises(BadKey, PinnedKeys, RS256, None, self.mktemp_path().parent)


class TextInTheSettings(SynchronousTestCase):
    """A key that stands in the settings file itself."""

    def test_it_is_read_again(self) -> None:
        """SIGHUP: the new text, and the old key where the new one is broken."""
        first, second = Issuer(), Issuer()
        texts = [first.public_pem]
        source = PinnedKeys(["RS256"], first.public_pem, None, lambda: texts[-1])
        before = source.keys
        texts.append(second.public_pem)
        source.reload()
        self.assertNotEqual(source.keys, before)
        kept = source.keys
        texts.append("no key")
        self.assertRaises(BadKey, source.reload)
        self.assertIs(source.keys, kept)
