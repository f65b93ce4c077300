"""What every HTTP request gets: request id, log line, metrics, limits, security headers, the caller, errors as JSON.

Knows no endpoint: the endpoints are in ``api``, ``openai``, ``sessions`` and ``console``.
"""
