"""The page /docs, which shows the OpenAPI document. It needs no other origin and no inline script.

Only shows the document: docs/decisions.md says why it is not Swagger UI.
"""
