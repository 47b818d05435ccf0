"""Clients that are not ours speak the wire of an ingest session with a daemon process."""
