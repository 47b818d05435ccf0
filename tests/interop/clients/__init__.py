"""Each module is a program: one ingest session and one refusal with one library, told as JSON.

The environment says what to do: ``WS_URL``, ``CA_PATH`` (empty without TLS), ``JWT_TOKEN``,
``TENANT_ID``, ``INTERACTION_ID``. What is printed on standard output is one JSON object:
``started`` and ``stopped`` (the messages), ``acks`` (their seq), ``close`` (the code) and
``refused`` (the HTTP status a wrong token got).
"""
