"""The job queue: its port, and its implementation in Redis. It keeps jobs and leases and does no work on them."""
