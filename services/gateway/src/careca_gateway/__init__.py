"""The gateway: it takes a recording and answers who said what, and when.

Packages, from the top layer to the bottom: ``api``, ``jobs``, ``stages``, ``backends`` and ``ingest`` and ``formats``,
``pipeline``, ``storage``, ``decoding``. A package imports only from packages below it.
"""
