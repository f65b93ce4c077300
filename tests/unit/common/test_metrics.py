"""The exported metrics."""

import urllib.request
from contextlib import closing

import pytest
from prometheus_client import generate_latest

from careca.cache.port import CacheOutcome, Removal
from careca.errors import PreconditionFailed
from careca.inference.metrics import ModelServiceMetrics
from careca.inference.worker import Worker
from careca.telemetry.metrics import Metrics, MetricsEndpoint
from careca.types import GpuMemory, MemoryRelease, MemoryUsage, Stage
from support.fakes import FakeEngine
from support.promtool import promtool
from support.samples import sample_value

METHOD = "/careca.v1.DiarizerService/Diarize"


@pytest.fixture
def engine():
    return FakeEngine()


@pytest.fixture
def metrics(engine):
    metrics = ModelServiceMetrics(Stage.DIARIZE, engine, Worker())
    metrics.expect_rpcs([METHOD])
    return metrics


def value(metrics, name, **labels):
    return sample_value(metrics.registry, name, **labels)


def test_every_label_value_starts_at_zero(metrics):
    for outcome in CacheOutcome:
        assert value(metrics, "careca_cache_requests_total", result=outcome) == 0
    for reason in Removal:
        assert value(metrics, "careca_cache_evictions_total", reason=reason) == 0
    for kind in ("ram", "gpu"):
        for level in ("task", "release"):
            assert value(metrics, "careca_memory_released_bytes_total", kind=kind, level=level) == 0
    for cached in ("true", "false"):
        assert value(metrics, "careca_stage_seconds_count", stage="diarize", cached=cached) == 0
    assert value(metrics, "careca_audio_seconds_total", stage="diarize") == 0
    assert value(metrics, "careca_rpc_seconds_count", method=METHOD, code="OK") == 0


def test_what_happens_is_counted(metrics):
    metrics.observe_rpc(METHOD, "OK", 0.5)
    metrics.observe_stage(Stage.DIARIZE, 2.0, cached=True)
    metrics.count_audio(Stage.DIARIZE, 30.0)
    metrics.cache_requested(CacheOutcome.HIT)
    metrics.cache_removed(Removal.LRU, 3)
    metrics.cache_sized(7, 4096)
    metrics.cache_available(True)
    metrics.memory_cleaned("task", MemoryRelease(MemoryUsage(2048, 0), MemoryUsage(1024, 0)))
    metrics.cache_limited(100)
    metrics.cache_saved(12.5)
    metrics.out_of_memory()

    assert value(metrics, "careca_rpc_seconds_sum", method=METHOD, code="OK") == 0.5
    assert value(metrics, "careca_stage_seconds_count", stage="diarize", cached="true") == 1
    assert value(metrics, "careca_audio_seconds_total", stage="diarize") == 30
    assert value(metrics, "careca_cache_requests_total", result="hit") == 1
    assert value(metrics, "careca_cache_evictions_total", reason="lru") == 3
    assert value(metrics, "careca_cache_entries") == 7
    assert value(metrics, "careca_cache_size_bytes") == 4096
    assert value(metrics, "careca_cache_available") == 1
    assert value(metrics, "careca_memory_released_bytes_total", kind="ram", level="task") == 1024
    assert value(metrics, "careca_cache_max_entries") == 100
    assert value(metrics, "careca_cache_saved_seconds_total") == 12.5
    assert value(metrics, "careca_out_of_memory_total") == 1


def test_memory_before_and_after_a_cleanup_is_exported_after_the_first_one(metrics):
    left = {"kind": "ram", "level": "task", "moment": "after"}
    assert value(metrics, "careca_cleanup_memory_bytes", **left) is None

    metrics.memory_cleaned("task", MemoryRelease(MemoryUsage(9, 0, 5, 7), MemoryUsage(4, 0, 2, 3)))

    assert value(metrics, "careca_cleanup_memory_bytes", **left) == 4
    assert value(metrics, "careca_cleanup_memory_bytes", **left | {"moment": "before"}) == 9
    assert value(metrics, "careca_cleanup_memory_bytes", **left | {"kind": "gpu"}) == 3
    assert value(metrics, "careca_cleanup_memory_bytes", **left | {"level": "release"}) is None


def test_gauges_are_read_when_they_are_scraped(metrics, engine):
    assert value(metrics, "careca_model_loaded") == 0
    engine.load()
    assert value(metrics, "careca_model_loaded") == 1
    assert value(metrics, "careca_work_in_flight") == 0
    assert value(metrics, "careca_memory_rss_bytes") > value(metrics, "careca_memory_uss_bytes") > 0
    assert value(metrics, "careca_memory_limit_bytes") > value(metrics, "careca_memory_rss_bytes")


def test_gpu_memory_is_that_of_the_engine(metrics, engine):
    engine.gpu_memory = lambda: GpuMemory(1000, 2000, 3000, 4000)

    assert value(metrics, "careca_gpu_memory_allocated_bytes") == 1000
    assert value(metrics, "careca_gpu_memory_reserved_bytes") == 2000
    assert value(metrics, "careca_gpu_memory_used_bytes") == 3000
    assert value(metrics, "careca_gpu_memory_total_bytes") == 4000


def test_a_service_without_a_model_exports_no_gpu_and_no_cache():
    text = generate_latest(Metrics((Stage.DECODE, Stage.MERGE)).registry).decode()

    assert 'careca_stage_seconds_count{cached="false",stage="decode"} 0.0' in text
    assert "gpu_memory" not in text
    assert "careca_cache" not in text


def test_two_services_in_one_process_count_apart(engine):
    first, second = Metrics(), Metrics()
    first.observe_rpc(METHOD, "OK", 1.0)

    assert value(second, "careca_rpc_seconds_count", method=METHOD, code="OK") is None


def test_promtool_accepts_the_metrics(metrics):
    metrics.observe_rpc(METHOD, "OK", 0.5)

    assert promtool("check", "metrics", text=generate_latest(metrics.registry)) == ""


def test_the_endpoint_serves_on_a_free_port_and_frees_it(metrics):
    with closing(MetricsEndpoint(metrics.registry, "127.0.0.1", 0)) as endpoint:
        port = endpoint.port
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            assert b"careca_model_loaded 0.0" in response.read()
        with pytest.raises(PreconditionFailed, match="in use"):
            MetricsEndpoint(metrics.registry, "127.0.0.1", port)

    MetricsEndpoint(metrics.registry, "127.0.0.1", port).close()
