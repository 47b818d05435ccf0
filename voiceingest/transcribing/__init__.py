"""Deepgram hears along: a transcriber beside each stream's way to the bus, never in it.

``publisher`` puts one next to every lane, ``transcriber`` drives the pure ``stream.transcription``,
``socket`` is one connection to Deepgram, ``dial`` makes it (``names``: one look-up for
all), ``telling`` passes on what was heard, ``notices`` is what is logged of them all.
"""
