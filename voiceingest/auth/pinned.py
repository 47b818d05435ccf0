"""The one key of ``jwt_public_key`` or ``jwt_public_key_file``: the operator renews it, on SIGHUP."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from twisted.internet.defer import Deferred, succeed

from ..errors import BadKey
from .keys import KeySet, from_pem

# An 8192-bit RSA key is about 1.5 KB of PEM; whatever is larger is another file.
_KEY_FILE_MAX_BYTES: Final = 64 * 1024

# Why nothing can be verified: nobody has configured a key.
NO_KEY: Final = "no_key"


class PinnedKeys:
    """Holds one key, or none at all: then nothing can be verified and everybody is refused."""

    def __init__(
        self,
        algorithms: Collection[str],
        pem: str | None = None,
        path: Path | None = None,
        read_pem: Callable[[], str | None] | None = None,
    ) -> None:
        """Load the key; the file goes before the text, which ``read_pem`` reads again.

        Raises: ``BadKey``.
        """
        self._algorithms = algorithms
        self._read_pem = read_pem
        self._pem = pem
        self._path = path
        self._keys = self._load()

    @property
    def keys(self) -> KeySet | None:
        """The key that is loaded, ``None`` where no key is configured."""
        return self._keys

    @property
    def ready(self) -> str | None:
        """``None``, or ``no_key`` where none is configured."""
        return None if self._keys is not None else NO_KEY

    def newer_keys(self) -> Deferred[None] | None:
        """There is nothing to wait for."""
        return None

    def start(self) -> None:
        """Nothing runs in the background."""

    def stop(self) -> Deferred[None]:
        """Nothing runs in the background."""
        return succeed(None)

    def reload(self) -> None:
        """Read the file, or the text in the settings, again.

        Raises: ``OperatorError``; the key in use is then kept.
        """
        if self._read_pem is not None:
            self._pem = self._read_pem()
        self._keys = self._load()

    def _load(self) -> KeySet | None:
        pem = self._pem if self._path is None else _read(self._path)
        return None if pem is None else from_pem(pem, self._algorithms)


def _read(path: Path) -> str:
    try:
        if path.is_fifo():
            # A pipe would be waited for, by the whole daemon.
            raise BadKey("the key file is a pipe")
        with path.open("rb") as file:
            content = file.read(_KEY_FILE_MAX_BYTES + 1)
    except OSError as error:
        raise BadKey(f"the key file cannot be read: {error.strerror}") from None
    if len(content) > _KEY_FILE_MAX_BYTES:
        raise BadKey(f"the key file is larger than {_KEY_FILE_MAX_BYTES} bytes")
    # Bytes that are no text can be no PEM either, and are then refused as that.
    return content.decode("ascii", "replace")
