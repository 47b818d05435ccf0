"""How the database came to look as ``store.tables`` says: one module a step in ``versions``, run by Alembic.

A new step is a file there whose ``down_revision`` is the last one's ``revision``; see ``store.migrating``.
"""
