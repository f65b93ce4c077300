"""Authentication: tokens, callers, TLS files. Nothing here makes or serves calls."""
