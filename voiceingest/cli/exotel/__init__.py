"""A caller as Exotel would bring one: ``voiceingest simulate exotel``.

The other side of the voicebot dialect, written from its documentation and not from this daemon's own
decoder, so that one is a test of the other. Pure: ``outgoing`` and ``incoming`` (the messages),
``voice`` (what the caller says), ``player`` (what the caller hears), ``echo``, ``address``. What was
asked for: ``options``, ``choices``.
With time: ``wheel``, ``conversation``. With a network: ``line``, ``webhook``, ``caller``, ``calls``.
What is told of it: ``report``, ``summary``. ``command`` is the command.
"""
