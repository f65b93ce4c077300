"""Webhooks: HTTP calls that tell receivers when jobs have ended. See ``docs/webhooks.md``."""
