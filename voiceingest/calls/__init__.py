"""Calls that are answered: what an agent may do with one, what an operator sees of it.

``switchboard`` makes them, ``call`` is one while it lives, ``patience`` bears what its agent does wrong,
``session`` is the record that is shown.
``transports`` and ``service`` may import it. The audio of a call is a stream like any other and
goes its way through ``driver``; what is here answers.
"""
