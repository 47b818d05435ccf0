"""What the daemon costs, beside other programs that do the same job: ``make bench``.

``python -m benchmarks`` runs everything and writes ``benchmarks/results/latest.json``; ``python -m
benchmarks.page`` writes the page and its plots from that. The three scripts here that are not part of
it (``ingest_cost.py``, ``publish_cost.py``, ``call_cost.py``) measure one thing each, by themselves.
"""
