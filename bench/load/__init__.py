"""The stack under load, and replicas that change meanwhile: ``make load``."""
