"""Who calls and whether they may: tokens, TLS files, submitters. Nothing here makes or serves calls."""
