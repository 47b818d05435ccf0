"""One message at a time: ``decode(bytes) -> message`` and ``encode(message) -> bytes``.

A module here remembers nothing, opens nothing and knows no clock. Anything above may import it.
"""
