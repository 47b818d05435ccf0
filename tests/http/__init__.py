"""Tests of ``voiceingest.http``."""
