"""The paths of the public site."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from twisted.web.resource import IResource

from ..config import Settings
from ..health import Health
from ..metrics import Metrics
from .admin import by_own_name, guarded, health_routes, operator_routes
from .resource import Routes


def public_root(
    settings: Settings,
    metrics: Metrics,
    health: Health,
    resources: Mapping[str, IResource],
    operators: Mapping[str, IResource],
    drain: Callable[[], object],
) -> Routes:
    """``resources`` by path, the health pages, and the operators' pages behind the admin token.

    ``operators`` are more of the latter. Without an admin token they are not there at all.
    """
    routes: dict[str, IResource] = {**health_routes(health, metrics, reasons=False)}
    if settings.admin_token is not None:
        pages = {**operator_routes(metrics, drain), **operators}
        routes |= guarded(pages, settings.admin_token, metrics)
    return Routes(metrics, {**routes, **resources})


def admin_root(
    settings: Settings,
    metrics: Metrics,
    health: Health,
    resources: Mapping[str, IResource],
    drain: Callable[[], object],
) -> Routes:
    """The operators' pages without a token, the health pages with their reasons.

    What shows or does something is for who asks by a name of this machine's; figures are for everybody.
    """
    pages: dict[str, IResource] = {**operator_routes(metrics, drain), **resources}
    figures = {"/metrics": pages.pop("/metrics"), **health_routes(health, metrics, reasons=True)}
    return Routes(metrics, {**figures, **by_own_name(pages, settings.admin_hosts, metrics)})
