"""Sessions: the record of who speaks, beneath REST, gRPC and every transport.

``archive`` is what all of it shares. ``service`` is what the APIs ask, with ``bounds`` and ``merging`` for
what they may put into a session. ``records`` hears of live streams, ``live`` knows which are here, ``writer``
puts what they tell into the store later, by ``rows``, and ``outcomes`` says what the end of a stream makes of
its session. ``sweeper`` ends what is overdue or lost. Optional and with Redis: ``cache`` (with ``encoding``)
and ``bus``.

Coroutines here are asyncio's; what a stream calls is plain. The store is not known here, only what it
is asked (``session_interfaces``).
"""
