"""What is kept: devices, their tokens and sessions, in SQLite or PostgreSQL (SQLAlchemy, asyncio).

``engine.Store`` is the database, ``devices.DeviceStore`` and ``sessions.SessionStore`` are what is asked
of it (``IDeviceStore``, ``ISessionStore``), ``tables`` and ``migrations`` are what is in it. The packages
are an extra: nothing of them is imported before :func:`make_store` is called.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ..config import Settings
from ..errors import ExtraMissing
from ..interfaces import IClock
from ..metrics import Metrics

if TYPE_CHECKING:
    from .engine import Store

__all__ = ["make_store", "require_packages"]


def make_store(settings: Settings, metrics: Metrics, clock: IClock) -> Store:
    """The database the settings name; not started. Raises: ``ExtraMissing``, ``StoreUnusable``."""
    require_packages(settings.database_url.get_secret_value())
    from .engine import Store

    return Store(settings, metrics, clock)


def require_packages(database_url: str) -> None:
    """Import what a database of this kind needs. Raises: ``ExtraMissing`` with the command to install it."""
    is_postgresql = database_url.startswith("postgres")
    extra = "postgres" if is_postgresql else "control"
    for name in ("sqlalchemy", "greenlet", "alembic", "asyncpg" if is_postgresql else "aiosqlite"):
        try:
            import_module(name)
        except ImportError:
            raise ExtraMissing(f"{name} is not installed: pip install 'voiceingest[{extra}]'") from None
