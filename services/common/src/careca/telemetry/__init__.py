"""Logs, metrics and traces. Nothing here knows the settings, gRPC, or what the service does."""
