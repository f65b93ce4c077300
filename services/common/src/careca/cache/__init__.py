"""The result cache: its interface, its implementation in Redis, and the circuit breaker of its connection.

It stores bytes and knows no models.
"""
