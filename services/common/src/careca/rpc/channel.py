"""Channels to Careca's services, and the gRPC options that client and server must agree on."""

from __future__ import annotations

import json

import grpc
import grpc.aio

from careca.auth.tls import PemContents, TlsFiles
from careca.rpc.rotating_channel import RotatingChannel

MAX_REQUEST_BYTES = 16 * 1024 * 1024
"""Largest message that a server accepts. Chunks must be smaller, so a chunk that is too large gets a clear error."""

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""Largest message that a client accepts: enough for the result of the longest recording in all formats."""

KEEPALIVE_SECONDS = 15
"""How often an idle connection is probed.

Together with the timeout, a peer that hangs or whose machine is gone is detected within 25 seconds. gRPC answers probes
in threads of its own, so a busy process answers too, even if its calls send nothing for a long time.
"""

Options = list[tuple[str, str | int]]

KEEPALIVE_OPTIONS: Options = [
    ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # For pings that measure bandwidth: while one is open, keepalive sends none, by default for a minute. It is longer
    # than the timeout above because its answer may wait behind uploaded data, while keepalive accepts any data.
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
"""For channels and servers. The server must also allow pings this often (``careca.rpc.server``)."""

# Deadlines are set per call, not here: the timeout of the service config fires too early.
# Only the health check detects a server that drains while its connection stays open; pick_first ignores health.
_SERVICE_CONFIG = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}

CHANNEL_OPTIONS: Options = [
    *KEEPALIVE_OPTIONS,
    ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # Otherwise half a minute: so long a caller would not know the replicas that came after the last time.
    ("grpc.dns_min_time_between_resolutions_ms", 500),
    ("grpc.enable_http_proxy", 0),  # a proxy for the web must not get calls between services
]
"""The options of all channels."""

_RESPECT_HEALTH: Options = [("grpc.service_config", json.dumps(_SERVICE_CONFIG))]


def create_channel(
    target: str, tls: TlsFiles | None = None, *, respect_health: bool = True, options: Options | None = None
) -> grpc.aio.Channel:
    """Returns a channel for asyncio that distributes calls over all healthy servers behind ``target``.

    Calls fail with ``grpc.aio.AioRpcError``: make them inside ``careca.rpc.statuses.translated_errors``.

    Args:
        target: host:port, or dns:///name:port to use all addresses of a headless service, whichever it has at a time.
        tls: verifies the server's name; the files may be replaced at any time. ``None`` is without TLS.
        respect_health: whether to skip servers that report that they are not serving.
        options: replace the options that all channels have.
    """
    chosen = _options(respect_health, options)
    if tls is None:
        return grpc.aio.insecure_channel(target, options=chosen)
    return RotatingChannel(tls, lambda pem: grpc.aio.secure_channel(target, channel_credentials(pem), options=chosen))


def create_sync_channel(target: str, tls: TlsFiles | None = None, *, respect_health: bool = True) -> grpc.Channel:
    """Returns the same for code without asyncio, with the current files. Calls fail with ``grpc.RpcError``."""
    chosen = _options(respect_health)
    if tls is None:
        return grpc.insecure_channel(target, options=chosen)
    return grpc.secure_channel(target, channel_credentials(tls.current()), options=chosen)


def _options(respect_health: bool, others: Options | None = None) -> Options:
    common = [*CHANNEL_OPTIONS, *(_RESPECT_HEALTH if respect_health else [])]
    return list((dict(common) | dict(others or ())).items())


def channel_credentials(pem: PemContents) -> grpc.ChannelCredentials:
    """Returns credentials with the certificate in ``pem`` that trust its authority, by default those of the system."""
    return grpc.ssl_channel_credentials(pem.authority, pem.key, pem.certificate)
