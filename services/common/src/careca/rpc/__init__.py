"""gRPC as all services use it: server, channels, interceptors, statuses, streams.

Nothing here knows what a call is about.
"""
