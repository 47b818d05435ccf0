"""Tests of ``voiceingest.websocket``."""
