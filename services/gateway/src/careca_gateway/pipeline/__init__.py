"""The stages of one request in order, and the pure functions that turn their findings into utterances.

No gRPC, Redis or protobuf here: stages are reached through the protocols in ``port``.
"""
