"""The gateway in its own process: its memory, the memory for a large upload, and calls that survive it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from careca.errors import InvalidRecording, Unavailable
from careca.rpc.channel import KEEPALIVE_OPTIONS, Options, create_channel
from careca.rpc.probe import main as probe
from careca.rpc.statuses import translated_errors
from careca.types import Digest, Job
from careca.v1 import admin_pb2, admin_pb2_grpc
from careca_client import AsyncClient
from support.fakes import FakeDiarizerEngine, FakeTranscriberEngine
from support.media import tone, wav
from support.redis_server import RedisServer, free_port
from support.stack import Caller, ModelService, config_for
from support.waiting import HANG_SECONDS, happens

MIB = 1024 * 1024
IDLE_BYTES = 120_000_000
UPLOAD_CHUNKS = 300
UPLOAD_GROWTH_BYTES = 100 * MIB
"""Far less than is uploaded. More data waits for the disk if the machine is busy: 45 MiB were seen."""
NOTICED_MS = 30_000


class GatewayProcess:
    """``python -m careca_gateway``, without model services unless ``settings`` name them."""

    def __init__(self, folder: Path, port: int = 0, **settings: str) -> None:
        self.port = port or free_port()
        environment = {
            **os.environ,
            "CARECA_PORT": str(self.port),
            "CARECA_METRICS_PORT": "-1",
            "CARECA_STORE_DIR": str(folder / "store"),
            **{f"CARECA_{name.upper()}": value for name, value in settings.items()},
        }
        with (folder / "gateway.log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "careca_gateway"], env=environment, stderr=log)
        while probe([f"127.0.0.1:{self.port}"]) != 0:  # it listens before it is ready
            assert self.process.poll() is None, "the gateway ended while it started"

    @property
    def rss_bytes(self) -> int:
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(HANG_SECONDS)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[GatewayProcess]:
    gateway = GatewayProcess(tmp_path)
    yield gateway
    gateway.process.kill()
    gateway.process.wait()


def test_an_idle_gateway_is_small_and_ends_on_sigterm(gateway: GatewayProcess) -> None:
    assert gateway.rss_bytes < IDLE_BYTES
    assert gateway.stop() == 0


async def test_clients_notice_a_hanging_gateway(gateway: GatewayProcess) -> None:
    keepalive = dict(KEEPALIVE_OPTIONS)
    silent = int(keepalive["grpc.keepalive_time_ms"])
    longest = max(silent + int(keepalive["grpc.keepalive_timeout_ms"]), int(keepalive["grpc.http2.ping_timeout_ms"]))
    assert longest <= NOTICED_MS
    shortened: Options = [(name, int(value) // 10) for name, value in KEEPALIVE_OPTIONS if name.endswith("_ms")]
    async with create_channel(f"127.0.0.1:{gateway.port}", options=shortened) as channel:
        stub = admin_pb2_grpc.AdminServiceStub(channel)
        # On a busy machine a ping may be late, and the connection is then made again.
        await stub.Stats(admin_pb2.StatsRequest(), timeout=HANG_SECONDS, wait_for_ready=True)
        gateway.process.send_signal(signal.SIGSTOP)

        async with asyncio.timeout(HANG_SECONDS):
            with pytest.raises(Unavailable), translated_errors():
                await stub.Stats(admin_pb2.StatsRequest(), timeout=10 * HANG_SECONDS)


async def test_a_large_upload_hardly_grows_the_process(gateway: GatewayProcess) -> None:
    block = os.urandom(MIB)
    whole = hashlib.sha256()
    for _ in range(UPLOAD_CHUNKS):
        whole.update(block)
    digest = Digest(whole.hexdigest(), UPLOAD_CHUNKS * MIB)
    sizes = [gateway.rss_bytes]

    def chunks() -> Iterator[bytes]:
        for _ in range(UPLOAD_CHUNKS):
            yield block
            sizes.append(gateway.rss_bytes)

    async with create_channel(f"127.0.0.1:{gateway.port}") as channel:
        with pytest.raises(InvalidRecording) as caught:
            await Caller(channel).converse([config_for(b"", digest=digest)], chunks(), within=None)

    assert caught.value.reason == "NOT_A_RECORDING"
    assert len(sizes) > UPLOAD_CHUNKS
    assert max(sizes) - sizes[0] < UPLOAD_GROWTH_BYTES


async def test_a_call_survives_the_killed_gateway_that_ran_it(tmp_path: Path) -> None:
    redis_server = RedisServer(tmp_path)
    redis_server.start()
    transcriber, diarizer = ModelService(FakeTranscriberEngine()), ModelService(FakeDiarizerEngine())
    for service in (transcriber, diarizer):
        await service.start("")
    settings = {
        "jobs_redis_url": redis_server.url,
        "transcriber_target": f"127.0.0.1:{transcriber.port}",
        "diarizer_target": f"127.0.0.1:{diarizer.port}",
    }
    gateway = await asyncio.to_thread(GatewayProcess, tmp_path, **settings)
    try:
        async with AsyncClient(f"127.0.0.1:{gateway.port}", retries=20) as client:
            diarizer.engine.may_go_on.clear()
            call = asyncio.create_task(client.transcribe(wav(tone(2.0))))
            await happens(diarizer.engine.started)

            gateway.process.kill()
            gateway.process.wait()
            diarizer.engine.may_go_on.set()
            gateway = await asyncio.to_thread(GatewayProcess, tmp_path, gateway.port, **settings)

            assert (await call).utterances
            (job,) = [job async for job in client.jobs()]
            ended = [event async for event in client.watch(job.id) if isinstance(event, Job)][-1]
        assert [attempt.outcome for attempt in ended.attempts] == ["WORKER_LOST", "SUCCEEDED"]
    finally:
        gateway.process.kill()
        gateway.process.wait()
        for service in (transcriber, diarizer):
            await service.stop()
        redis_server.stop()
