"""Uploads that can be resumed: their bytes and what is known about them, in a folder that survives restarts.

Knows no HTTP and no gateway: the endpoints, which speak the tus protocol, are in ``api.uploads``.
"""
