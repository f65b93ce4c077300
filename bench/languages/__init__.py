"""Recordings that change their language: ``make bench-languages``."""
