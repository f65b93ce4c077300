"""The gRPC services of the gateway: they check callers and convert messages. They make no decisions about the work."""
