"""The result cache: its port, its implementation in Redis, the circuit breaker before it.

It stores bytes and knows no models.
"""
