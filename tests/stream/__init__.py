"""Tests of the pure stream."""
