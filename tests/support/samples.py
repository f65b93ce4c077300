"""Reads a sample of a registry without the other metrics, of which those of the memory take long to measure."""

from __future__ import annotations

from prometheus_client import CollectorRegistry


def sample_value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    """Returns the value with exactly these labels; ``None`` if there is none."""
    for family in registry.restricted_registry([name]).collect():
        for each in family.samples:
            if each.name == name and each.labels == labels:
                return each.value
    return None
