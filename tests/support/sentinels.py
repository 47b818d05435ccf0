"""Three real sentinels for tests, and the Redis they watch.

primary = RedisServer(self)
replicas = [RedisServer(self, replica_of=primary) for _ in range(2)]
sentinels = Sentinels(self, primary, replicas)   # they agree when the constructor returns
... sentinels.url("redis-streams"), sentinels.failover(), sentinels.primary() ...
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, Final

import redis

from .daemon import HOST, free_port
from .servers import ITest, RedisServer, ServerFailed, TlsFiles, redis_program


class SentinelServer(RedisServer):
    """One sentinel process; ``rules`` are lines of its file."""

    def __init__(self, test: ITest, rules: Sequence[str], *, tls: TlsFiles | None, port: int) -> None:
        self._rules = rules
        super().__init__(test, tls=tls, port=port)

    def _command(self, port: int) -> list[str]:
        plain, encrypted = (port, 0) if self._tls is None else (0, port)
        lines = [f"bind {HOST}", f"port {plain}", f"dir {self._folder}", *self._rules]
        if self._tls is not None:
            lines += [f"tls-port {encrypted}", "tls-replication yes"]
            options = iter(self._tls.options())
            lines += [f"{name[2:]} {value}" for name, value in zip(options, options, strict=True)]
        # A sentinel writes to its file what it learns, and reads it again when it is restarted.
        path = self._folder / "sentinel.conf"
        if not path.exists():
            path.write_text("\n".join(lines) + "\n")
        return [redis_program(), str(path), "--sentinel"]


class Sentinels:
    """Three sentinels that watch ``primary`` and know each other and the replicas from the first moment.

    ``password`` is that of the servers, ``own_password`` that of the sentinels.
    """

    SERVICE: Final = "voice"

    def __init__(
        self,
        test: ITest,
        primary: RedisServer,
        replicas: Sequence[RedisServer],
        *,
        password: str = "",
        own_password: str = "",
        tls: TlsFiles | None = None,
        down_after_ms: int = 1000,
    ) -> None:
        self._redises = {server.port: server for server in (primary, *replicas)}
        self._own_password = own_password
        self._tls = tls
        ports = [free_port() for _ in range(3)]
        ids = [secrets.token_hex(20) for _ in ports]
        service = self.SERVICE
        common = [
            f"sentinel monitor {service} {HOST} {primary.port} 2",
            f"sentinel down-after-milliseconds {service} {down_after_ms}",
            f"sentinel failover-timeout {service} 5000",
            *([f"sentinel auth-pass {service} {password}"] if password else []),
            *([f"requirepass {own_password}"] if own_password else []),
            *(f"sentinel known-replica {service} {HOST} {replica.port}" for replica in replicas),
        ]
        self.servers = []
        for own_id, port in zip(ids, ports, strict=True):
            others = [(one, there) for one, there in zip(ids, ports, strict=True) if one != own_id]
            known = [f"sentinel known-sentinel {service} {HOST} {there} {one}" for one, there in others]
            rules = [f"sentinel myid {own_id}", *common, *known]
            self.servers.append(SentinelServer(test, rules, tls=tls, port=port))

    def url(self, kind: str = "redis", login: str = "", db: int | None = None) -> str:
        """URL of what they watch; ``login`` is ``user:password``."""
        scheme = kind if self._tls is None else kind.replace("redis", "rediss", 1)
        hosts = ",".join(f"{HOST}:{server.port}" for server in self.servers)
        place = self.SERVICE + ("" if db is None else f"/{db}")
        return f"{scheme}+sentinel://{login}{'@' if login else ''}{hosts}/{place}"

    def ask(self, *words: str) -> Any:
        """The answer of the first sentinel that gives one to ``SENTINEL <words>``."""
        failed: Exception = ServerFailed("there is no sentinel")
        for server in self.servers:
            with server.control(self._own_password) as client:
                try:
                    return client.execute_command("SENTINEL", *words)  # type: ignore[no-untyped-call]
                except redis.RedisError as error:
                    failed = error
        raise failed

    def failover(self) -> None:
        """Ask for a planned fail-over; returns when it has been begun."""
        self.ask("FAILOVER", self.SERVICE)

    def primary_port(self) -> int:
        """The port of the primary they name."""
        return int(self.ask("GET-MASTER-ADDR-BY-NAME", self.SERVICE)[1])

    def primary(self) -> RedisServer:
        """The primary they name."""
        return self._redises[self.primary_port()]
