"""Tests of voiceingest.auth."""
