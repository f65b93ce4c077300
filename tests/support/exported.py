"""Every metric that the services export, as the code has it, with its labels."""

from __future__ import annotations

import functools

from prometheus_client import CollectorRegistry

from careca.inference.engine_thread import EngineThread
from careca.inference.metrics import ModelServiceMetrics
from careca.inference.worker import Worker
from careca.telemetry.metrics import Metrics
from careca.types import MemoryRelease, MemoryUsage, Stage
from careca_gateway.jobs.metrics import JobMetrics
from careca_gateway.live.metrics import LiveMetrics
from careca_gateway.metrics import GatewayMetrics
from careca_web.metrics import WebMetrics
from support.fakes import FakeEngine

SCRAPED = {"namespace", "job", "pod", "container", "instance"}
"""Labels that come from where a sample was scraped."""


@functools.cache
def registries() -> dict[str, CollectorRegistry]:
    """Those of all services, in each of which something of every kind has happened."""
    gateway = GatewayMetrics()
    JobMetrics(gateway.registry)
    LiveMetrics(gateway.registry)
    services: dict[str, Metrics] = {"gateway": gateway}
    for name, stage in (("transcriber", Stage.TRANSCRIBE), ("diarizer", Stage.DIARIZE)):
        services[name] = ModelServiceMetrics(stage, EngineThread(FakeEngine()), Worker())
    services["web"] = web = WebMetrics()
    for route, status in (("/readyz", 200), ("/readyz", 503), ("/api/session", 200)):
        web.observe_request("GET", route, status, 1.0)
    web.count_closed_websocket("/api/live", 1000)
    for metrics in services.values():
        metrics.expect_rpcs(["/careca.v1.Service/Method"])
        for code in ("INTERNAL", "RESOURCE_EXHAUSTED"):
            metrics.observe_rpc("/careca.v1.Service/Method", code, 1.0)
        for level in ("task", "release"):
            metrics.memory_cleaned(level, MemoryRelease(MemoryUsage(1, 1), MemoryUsage(1, 1)))
        metrics._certificates.labels("server").set(0)
    return {name: metrics.registry for name, metrics in services.items()}


@functools.cache
def exported() -> dict[str, dict[str, set[str]]]:
    """The names of all samples, with the values that each of their labels has."""
    found: dict[str, dict[str, set[str]]] = {"up": {}}
    for registry in registries().values():
        for family in registry.collect():
            for sample in family.samples:
                values = found.setdefault(sample.name, {})
                for label, value in sample.labels.items():
                    values.setdefault(label, set()).add(value)
    return found
