"""Damaged recordings, requests and connections sent to real services: ``make fuzz``."""
