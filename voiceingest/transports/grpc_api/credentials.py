"""The certificate of gRPC: the daemon's own, read again with it."""

from __future__ import annotations

from typing import Any

import grpc

from ...errors import BadCertificate
from ...tls import KeyPair, load_context


class ReloadingCredentials:
    """One certificate in use. Connections that are open keep the one they began with."""

    def __init__(self, pair: KeyPair) -> None:
        """Read the files. Raises: ``BadCertificate``."""
        self._pair = pair
        self._current = self._read()
        self._given = self._current

    def reload(self) -> None:
        """Read the files again. Raises: ``BadCertificate``; the certificate in use is then kept."""
        self._current = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """What a secure port is opened with; each handshake asks whether there is a new certificate."""
        return grpc.dynamic_ssl_server_credentials(self._given, self._newer)

    def _newer(self) -> Any:
        # Called in a thread of gRPC: one assignment is all that is shared.
        current = self._current
        if current is self._given:
            return None
        self._given = current
        return current

    def _read(self) -> Any:
        # Whether they fit together is asked of OpenSSL; gRPC would only log it, at the first handshake.
        load_context(self._pair)
        try:
            key, chain = self._pair.key_path.read_bytes(), self._pair.cert_path.read_bytes()
            if self._pair.chain_path is not None:
                chain += b"\n" + self._pair.chain_path.read_bytes()
        except OSError as error:
            raise BadCertificate(f"{self._pair.cert_path}: {error.strerror}") from None
        return grpc.ssl_server_certificate_configuration([(key, chain)])
