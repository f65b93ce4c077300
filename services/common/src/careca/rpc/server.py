"""Runs one gRPC server: TLS, health, reflection, metrics, warm-up, drain.

There are three health names. ``liveness`` is SERVING as long as the event loop answers. ``readiness`` and the empty
name, which clients watch, are SERVING from the end of the warm-up to the start of the drain.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import grpc.aio
from google.protobuf import descriptor_pool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from careca.auth.caller import Authorize, allow_anyone
from careca.auth.tls import PemContents, TlsFiles
from careca.cancellation import cancel_and_wait
from careca.errors import CarecaError, cannot_listen
from careca.resources.memory import freeze_objects
from careca.rpc.admission import AdmissionControl
from careca.rpc.channel import KEEPALIVE_OPTIONS, KEEPALIVE_SECONDS, MAX_REQUEST_BYTES, Options
from careca.rpc.interceptors import CallInterceptor
from careca.rpc.robust_server import new_server
from careca.settings import ServiceSettings, public_values
from careca.telemetry.logs import get_logger
from careca.telemetry.metrics import Metrics, MetricsEndpoint

READINESS = ("", "readiness")
"""Health names that report whether the service accepts calls."""

LIVENESS = "liveness"
"""Health name that reports whether the process is alive."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

# An open health watch never ends by itself, so stopping always takes the whole grace. All other calls have ended then.
_STOP_GRACE_SECONDS = 0.2

# Cancelled calls answer, and their threads end, after the current batch of the model.
_DISCONNECT_AFTER_SECONDS = 1.0
"""Callers that watch health have noticed the drain by then, and Kubernetes sends new connections elsewhere."""

_CANCEL_GRACE_SECONDS = 10.0

# gRPC stops at once when its grace is over. If it does not, nothing else may be lost for that.
_STOP_SECONDS = 10.0

_SERVER_OPTIONS: Options = [
    *KEEPALIVE_OPTIONS,
    ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_SECONDS * 1000 // 2),
    # Clients send pings that measure bandwidth too. When these counted as abuse, they ended calls of many minutes.
    ("grpc.http2.max_ping_strikes", 0),
    # Clients look for new replicas only when a connection ends. Without a grace, its calls may finish.
    ("grpc.max_connection_age_ms", 300_000),
    # Otherwise two processes on one port would share its calls without an error.
    ("grpc.so_reuseport", 0),
]

_log = get_logger(__name__)

AddServices = Callable[[grpc.aio.Server], Sequence[str]]
Hook = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    """A hook that does nothing."""


@dataclass(frozen=True, slots=True)
class Service:
    """A service that is ready to be run by a server."""

    add_services: AddServices
    """Adds the servicers to the server and returns the full names of their services."""
    metrics: Metrics
    warm_up: Hook = _nothing
    """Runs before calls are accepted, for example to load a model. Raises to prevent the start."""
    close: Hook = _nothing
    """Runs when no call is in flight any more."""
    drain: Callable[[], None] = lambda: None
    """Runs as soon as no more calls are accepted."""
    authorize: Authorize = allow_anyone


class ServiceServer:
    """One server, from start to stop, in any event loop. ``serve`` runs it as a process; tests run several in one."""

    def __init__(self, settings: ServiceSettings, service: Service) -> None:
        self._settings = settings
        self._service = service
        self._admission = AdmissionControl()
        self._health = health.aio.HealthServicer()
        self._servers: list[grpc.aio.Server] = []
        self._endpoint: MetricsEndpoint | None = None
        self.port = 0
        """The port for calls, once started."""
        self.health_port = 0
        """The separate port for health checks, once started; 0 if there is none."""

    @property
    def metrics_port(self) -> int | None:
        """The port for metrics, ``None`` if they are not served."""
        return self._endpoint.port if self._endpoint else None

    @property
    def calls_in_flight(self) -> int:
        """Calls in flight, without health checks and reflection."""
        return self._admission.in_flight

    async def start(self) -> None:
        """Listens, warms up and then accepts calls; before that, calls are refused as ``Unavailable``.

        Raises ``PreconditionFailed`` if a port is taken, and what the warm-up raises. ``stop`` must be called in any
        case.
        """
        await self._listen()
        await self._service.warm_up()
        self._admission.start_serving()
        await self._set_health(_SERVING)
        _log.info("Service ready", port=self.port, metrics_port=self.metrics_port)

    async def wait_until_broken(self) -> None:
        """Returns or raises when gRPC has stopped serving by itself."""
        ending = [asyncio.create_task(server.wait_for_termination()) for server in self._servers]
        done, others = await asyncio.wait(ending, return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        for task in done:
            await task

    async def stop(self) -> None:
        """Refuses new calls, gives those in flight the drain time to finish, cancels the rest and stops."""
        self._admission.start_draining()
        self._service.drain()
        await self._set_health(_NOT_SERVING)
        disconnecting = asyncio.create_task(self._disconnect_callers())
        if not await self._admission.wait_until_idle(self._settings.drain_seconds):
            _log.warning("calls did not end while draining", calls=self.calls_in_flight)
            self._admission.cancel_calls()
            await self._admission.wait_until_idle(_CANCEL_GRACE_SECONDS)
        for server in self._servers:
            await _stop(server)
        await cancel_and_wait([disconnecting])
        await self._service.close()
        if self._endpoint:
            await asyncio.to_thread(self._endpoint.close)
        _log.info("Service stopped")

    async def _disconnect_callers(self) -> None:
        """Tells callers to connect elsewhere, while their calls in flight go on.

        Otherwise they would stay until the last call has ended, and each new call of theirs fail until then: behind the
        one address of a Kubernetes Service, gRPC connects again only when a connection ends.
        """
        await asyncio.sleep(_DISCONNECT_AFTER_SECONDS)
        for server in self._servers[:1]:  # not that of the health checks
            await server.stop(self._settings.drain_seconds + _CANCEL_GRACE_SECONDS)

    async def _listen(self) -> None:
        settings, metrics = self._settings, self._service.metrics
        tls = settings.tls
        interceptor = CallInterceptor(metrics=metrics, admission=self._admission, authorize=self._service.authorize)
        server = self._new_server(interceptor)
        services = list(self._service.add_services(server))
        metrics.expect_rpcs(_methods(services))
        await self._set_health(_NOT_SERVING)  # the initial state of the health service is SERVING
        await self._health.set(LIVENESS, _SERVING)
        if settings.health:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
            services.append(health.SERVICE_NAME)
        if settings.reflection:
            reflection.enable_server_reflection((*services, reflection.SERVICE_NAME), server)
        self.port = _bind(server, settings.host, settings.port, "CARECA_PORT", tls)
        if settings.health_port >= 0:
            self.health_port = self._serve_health(settings.health_port)
        if settings.metrics_port >= 0:
            self._endpoint = MetricsEndpoint(metrics.registry, settings.host, settings.metrics_port)
        if tls:
            metrics.watch_certificate("server", tls.expiry_unix)
        for each in self._servers:
            await each.start()

    def _new_server(self, *interceptors: grpc.aio.ServerInterceptor) -> grpc.aio.Server:
        server = new_server(interceptors, _SERVER_OPTIONS)
        self._servers.append(server)
        return server

    def _serve_health(self, port: int) -> int:
        server = self._new_server()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        return _bind(server, self._settings.host, port, "CARECA_HEALTH_PORT")

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus.ValueType) -> None:
        for name in READINESS:
            await self._health.set(name, status)


async def serve(settings: ServiceSettings, service: Service) -> None:
    """Runs a ``ServiceServer`` until SIGTERM or SIGINT. Exits the process with status 1 if it cannot start."""
    _log.info("Service starting up", **public_values(settings))
    server = ServiceServer(settings, service)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        if await _started(server, stopping):
            freeze_objects()
            await _until(stopping, server)
    except CarecaError as error:
        _log.error("Service cannot start", reason=error.reason, error=error.message)
        raise SystemExit(1) from None
    finally:
        await server.stop()


async def _started(server: ServiceServer, stopping: asyncio.Event) -> bool:
    """Starts ``server``. Returns false if it must stop before it is ready."""
    starting = asyncio.create_task(server.start())
    interrupted = asyncio.create_task(stopping.wait())
    await asyncio.wait((starting, interrupted), return_when=asyncio.FIRST_COMPLETED)
    interrupted.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.wait((starting,))
        return False
    starting.result()
    return True


async def _until(stopping: asyncio.Event, server: ServiceServer) -> None:
    """Waits for ``stopping``. Exits the process with status 1 if gRPC stops serving by itself."""
    stopped = asyncio.create_task(stopping.wait())
    broken = asyncio.create_task(server.wait_until_broken())
    await asyncio.wait((stopped, broken), return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if broken.done():
        _log.critical("Service does not serve any more", exc_info=broken.exception())
        raise SystemExit(1)
    broken.cancel()


async def _stop(server: grpc.aio.Server) -> None:
    """Stops ``server``. Returns after some seconds in any case."""
    stopping = asyncio.create_task(server.stop(_STOP_GRACE_SECONDS))
    done, _ = await asyncio.wait((stopping,), timeout=_STOP_SECONDS)
    if done:
        stopping.result()
    else:
        _log.warning("gRPC did not stop: the process ends without waiting for it")
        stopping.cancel()


def _methods(services: Sequence[str]) -> list[str]:
    """Returns the full names of all methods of the services, as in gRPC's paths."""
    pool = descriptor_pool.Default()
    return [f"/{service}/{method.name}" for service in services for method in pool.FindServiceByName(service).methods]


def _bind(server: grpc.aio.Server, host: str, port: int, variable: str, tls: TlsFiles | None = None) -> int:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if tls:
            return server.add_secure_port(address, _server_credentials(tls))
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise cannot_listen(address, variable) from error


def _server_credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    """Returns credentials that are checked for changes at each connection."""
    used = tls.current()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal used
        pem = tls.current()
        if pem is used:
            return None
        used = pem
        return _configuration(pem)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(used),
        changed,  # type: ignore[arg-type]  # None means no change, which the stubs do not declare
        require_client_authentication=tls.has_authority,
    )


def _configuration(pem: PemContents) -> grpc.ServerCertificateConfiguration:
    assert pem.key, "the settings name a key with every certificate"  # noqa: S101
    assert pem.certificate, "a server with TLS has a certificate"  # noqa: S101
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.certificate)], root_certificates=pem.authority)
