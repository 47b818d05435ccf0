"""Tests with real sockets and real servers."""
