"""How the web service serves: results, uploads, event streams and pages, on the real service and gateway.

``python -m bench.web`` is the entry. Each part starts a stack of its own. Model services only take time.
"""
