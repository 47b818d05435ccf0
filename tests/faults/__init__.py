"""The fault bench: real servers and real daemons, something that breaks, and what became of the audio.

``python -m tests.faults`` (``make faults``) runs the scenarios; docs/explanation/faults.md says what
each of them promises and holds the table of what was recorded.
"""
