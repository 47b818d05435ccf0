"""Devices, tokens and sessions over REST (contract section 6): FastAPI applications beneath ``http/asgi``.

``app`` builds them. ``shell`` is around each: origins, limits a minute, HEAD. ``body`` reads JSON;
``shapes``, ``device_models`` and ``session_models`` are what is said; ``routes`` is what all have in common,
``devices``, ``sessions`` and ``operators`` are the routes; ``refusals`` are the errors. ``document`` is the
OpenAPI document; ``outline`` reads it for ``page`` and ``manual``.
"""
