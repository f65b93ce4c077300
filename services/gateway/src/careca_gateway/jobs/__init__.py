"""Jobs: durable requests in a shared queue, the workers that run them, and their results. See ``docs/jobs.md``."""
