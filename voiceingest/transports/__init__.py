"""One file for each way a caller comes in; thin, and none imports another.

A transport decodes what its dialect says, calls the stream's driver and encodes the answers.
``service`` finds them through ``catalog``.
"""
