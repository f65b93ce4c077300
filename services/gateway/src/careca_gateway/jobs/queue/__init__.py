"""The job queue: its protocol in ``port``, and its implementation in Redis. Nothing here runs jobs."""
