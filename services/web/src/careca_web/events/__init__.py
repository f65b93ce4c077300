"""Follows jobs for browsers. Streams of one caller that show the state of the same job share one watch of it.

Knows no HTTP: the endpoints are in ``api.events``.
"""
