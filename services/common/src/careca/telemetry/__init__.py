"""Logs, metrics and traces. Nothing here knows the settings or what the service does."""
