"""Runs the application with uvicorn: TLS with files that may be replaced, slow connections, drain."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from careca.auth.tls import PemContents, TlsFiles
from careca.errors import CarecaError, cannot_listen
from careca.resources.memory import freeze_objects
from careca.settings import public_values
from careca.telemetry.logs import get_logger
from careca.telemetry.metrics import MetricsEndpoint
from careca_web.http.requests import ended_early
from careca_web.http.sockets import MAX_MESSAGE_BYTES
from careca_web.settings import WebSettings
from careca_web.wiring import WebService

MAX_HEADER_BYTES = 64 * 1024
"""Maximum size of a request's first line and headers."""

_TLS_CHECK_SECONDS = 10.0

_CLOSE_SECONDS = 2.0
"""How long idle connections get to close at the end: time to read the last bytes of a response."""

_GATEWAY_CHECK_SECONDS = 1.0

_log = get_logger(__name__)


class WebServer:
    """One server, from start to stop. ``serve`` runs it as a process; tests run it in theirs.

    Args:
        settings: where to listen, TLS and timeouts.
        service: the application.
    """

    def __init__(self, settings: WebSettings, service: WebService) -> None:
        self._settings = settings
        self._service = service
        self._tls = settings.tls
        self._socket: socket.socket | None = None
        self._server: _Uvicorn | None = None
        self._endpoint: MetricsEndpoint | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.port = 0
        """The port for HTTP, once started."""

    @property
    def metrics_port(self) -> int | None:
        """The port for metrics, ``None`` if they are not served."""
        return self._endpoint.port if self._endpoint else None

    async def start(self) -> None:
        """Listens and serves. Raises ``PreconditionFailed`` if a port is taken. ``stop`` must be called in any case."""
        settings, metrics = self._settings, self._service.metrics
        self._socket = _listen(settings.host, settings.port)
        self.port = self._socket.getsockname()[1]
        if settings.metrics_port >= 0:
            self._endpoint = MetricsEndpoint(metrics.registry, settings.host, settings.metrics_port)
        self._server = _Uvicorn(_config(settings, self._service, self._tls))
        self._tasks.append(asyncio.create_task(self._server.serve(sockets=[self._socket])))
        if self._tls:
            metrics.watch_certificate("server", self._tls.expiry_unix)
            self._tasks.append(asyncio.create_task(_renew_certificate(self._server.config, self._tls)))
        self._tasks.extend(asyncio.create_task(work()) for work in self._service.background)
        await self._server.listening.wait()
        _log.info("Service ready", port=self.port, metrics_port=self.metrics_port)

    async def wait_until_broken(self) -> None:
        """Returns or raises when the server has stopped by itself, or must not go on.

        Raises ``PreconditionFailed`` if the gateway accepts callers without a token although other machines can reach
        this service.
        """
        checking = asyncio.create_task(self._check_gateway())
        done, _ = await asyncio.wait((self._tasks[0], checking), return_when=asyncio.FIRST_COMPLETED)
        checking.cancel()
        for task in done:
            task.result()

    async def stop(self) -> None:
        """Refuses new connections, gives requests in flight the drain time to finish, and stops."""
        self._service.draining.begin()
        if self._server:
            self._server.should_exit = True
            for task in self._tasks[1:]:
                task.cancel()
            await asyncio.wait(self._tasks)
        elif self._socket:
            self._socket.close()
        await self._service.gateway.close()
        if self._endpoint:
            await asyncio.to_thread(self._endpoint.close)
        _log.info("Service stopped")

    async def _check_gateway(self) -> None:
        """Waits for the gateway, and then until the service stops."""
        while not await self._service.gateway.is_ready():  # noqa: ASYNC110 - the gateway is another process
            await asyncio.sleep(_GATEWAY_CHECK_SECONDS)
        _log.info("the gateway accepts calls", gateway=self._settings.gateway_target)
        await asyncio.Event().wait()


async def serve(settings: WebSettings, service: WebService) -> None:
    """Runs a ``WebServer`` until SIGTERM or SIGINT. Exits the process with status 1 if it cannot start or go on."""
    _log.info("Service starting up", **public_values(settings))
    server = WebServer(settings, service)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        await server.start()
        freeze_objects()
        stopped = asyncio.create_task(stopping.wait())
        broken = asyncio.create_task(server.wait_until_broken())
        await asyncio.wait((stopped, broken), return_when=asyncio.FIRST_COMPLETED)
        if broken.done():
            broken.result()
            _log.critical("Service does not serve any more")
            raise SystemExit(1)
        broken.cancel()
    except CarecaError as error:
        _log.error("Service cannot start", reason=error.reason, error=error.message)
        raise SystemExit(1) from None
    finally:
        await server.stop()


class _Uvicorn(uvicorn.Server):
    """A server that leaves the signals to ``serve``."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Says when it listens."""
        await super().startup(sockets)
        self.listening.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures nothing."""
        yield


class _Connection(H11Protocol):
    """A connection that is closed if a request's headers do not arrive in time."""

    header_seconds = 20.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._upgraded:
            return
        if self._waiting is None:
            if self.cycle is None or self.cycle.response_complete:
                self._await_headers()
        elif self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hands the connection over. The headers have arrived."""
        self._stop_waiting()
        self._upgraded = True
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        """Refuses bytes that are not HTTP. For a request that they are the body of, the caller has gone."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:  # a response has begun
            self.transport.close()

    def shutdown(self) -> None:
        """Closes an idle connection, even if the caller does not answer the end of TLS.

        Callers that keep connections for later read nothing from them meanwhile.
        """
        idle = self.cycle is None or self.cycle.response_complete
        super().shutdown()
        if idle:
            self.loop.call_later(_CLOSE_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    _waiting: asyncio.TimerHandle | None = None
    _upgraded = False

    def _await_headers(self) -> None:
        self._waiting = self.loop.call_later(self.header_seconds, self._close_if_waiting)

    def _stop_waiting(self) -> None:
        if self._waiting:
            self._waiting.cancel()
        self._waiting = None

    def _close_if_waiting(self) -> None:
        self._waiting = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()


_INCOMPLETE = "ASGI callable returned without completing response."


def _says_more(record: logging.LogRecord) -> bool:
    """Leaves out what ``RequestMiddleware`` has logged already, with its reason."""
    return record.msg != _INCOMPLETE or not ended_early.get()


def _config(settings: WebSettings, service: WebService, tls: TlsFiles | None) -> uvicorn.Config:
    connection = type("_Connection", (_Connection,), {"header_seconds": settings.header_seconds})
    options: dict[str, Any] = {}
    if tls:
        options["ssl_context_factory"] = lambda *_: _tls_context(tls)
    logging.getLogger("uvicorn.error").addFilter(_says_more)
    return uvicorn.Config(
        service.app,
        http=connection,
        ws="websockets-sansio",
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # audio does not get smaller, and a small message could become a large one
        lifespan="off",
        interface="asgi3",
        loop="none",
        log_config=None,
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        timeout_graceful_shutdown=max(1, int(settings.drain_seconds)),
        **options,
    )


def _tls_context(tls: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    pem = tls.current()
    _use_certificate(context, pem)
    if pem.authority:
        context.load_verify_locations(cadata=pem.authority.decode())
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _use_certificate(context: ssl.SSLContext, pem: PemContents) -> None:
    """Makes new connections use the certificate. OpenSSL reads it from a file only."""
    with tempfile.TemporaryDirectory(prefix="careca-tls-") as folder:  # readable for this user only
        path = Path(folder) / "certificate.pem"
        path.write_bytes((pem.certificate or b"") + b"\n" + (pem.key or b""))
        context.load_cert_chain(path)


async def _renew_certificate(config: uvicorn.Config, tls: TlsFiles) -> None:
    """Uses replaced files for new connections."""
    used = tls.current()
    while True:
        await asyncio.sleep(_TLS_CHECK_SECONDS)
        pem = await asyncio.to_thread(tls.current)
        if pem is used or not config.ssl:
            continue
        try:
            _use_certificate(config.ssl, pem)
        except OSError as error:  # the disk is full: the certificate has to be in a file for a moment
            _log.error("the new certificate cannot be used yet; the old one stays in use", error=str(error))
        else:
            used = pem


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise cannot_listen(f"{host}:{port}", "CARECA_PORT") from error
    return listening
