"""Sessions over gRPC: ``server`` listens, ``servicer`` answers, ``generated`` is what protoc has written,
``manual`` the reference page.

Needs the extra ``grpc``; ``service_control`` imports it where the settings ask for it, and nobody else.
"""
