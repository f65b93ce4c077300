"""Memory and processors of this process: measured, limited and released. Nothing here knows what they are used for."""
