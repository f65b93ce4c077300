"""The REST API under /api: one module for each resource, which translates between HTTP and the client library.

Decides nothing: the rules are the gateway's, and those of ``events`` and ``uploads``. The bodies are in ``models``.
"""
