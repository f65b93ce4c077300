"""Webhooks: tells receivers that jobs have ended. ``docs/webhooks.md`` has the rules."""
