"""Corrections of transcripts: edits as pure functions, and their storage as revisions of a job's result.

``edits``, ``replacing``, ``speakers``, ``alignment``, ``pieces`` and ``turns`` only compute, from ``careca.types`` to
``careca.types``. ``service`` stores. Translation of messages belongs to ``careca_gateway.api``.
"""
