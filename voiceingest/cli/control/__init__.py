"""``voiceingest sessions`` and ``voiceingest devices``: what operators ask a running daemon about.

``asking`` asks and tells what was refused; the commands are in files of their names.
"""
