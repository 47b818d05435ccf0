"""Tests of the REST API: pure parts here, the whole of it in ``tests/http/test_api.py``."""
