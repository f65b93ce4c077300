"""The page /docs, which shows the OpenAPI document. It needs no other origin and no inline script.

Swagger UI and Redoc do not fit: their packages on PyPI are old and do not read OpenAPI 3.1.
"""
