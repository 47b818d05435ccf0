"""Mirrors ``voiceingest.transports.grpc_api``."""
