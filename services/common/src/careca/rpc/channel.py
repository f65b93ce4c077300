"""Channels to Careca's services, and the gRPC options that both ends must agree on."""

from __future__ import annotations

import json

import grpc
import grpc.aio

from careca.auth.tls import Pem, PemFiles
from careca.rpc.rotating_channel import RotatingChannel

MAX_REQUEST_BYTES = 16 * 1024 * 1024
"""Largest message that a server takes. Chunks are smaller by contract, so that a larger one gets a proper refusal."""

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""Largest message that a client takes: the result of the longest recording in all formats fits."""

KEEPALIVE_SECONDS = 15
"""How often a silent connection is probed.

With the time for an answer, it is noticed within 25 seconds that the other process hangs or its machine is gone. gRPC
answers in threads of its own: a process that is merely busy does, however long its calls are silent.
"""

Options = list[tuple[str, str | int]]

KEEPALIVE_OPTIONS: Options = [
    ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Of pings that measure bandwidth: while one is out keepalive sends none, for a minute if nothing is said. Longer
    # than the other, as an answer may be behind what is uploaded, where any answer at all will do for keepalive.
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]
"""For channels and servers alike; the server must also allow pings this often (``careca.rpc.server``)."""

# Deadlines are given per call and never here: the service config's own timeout fires early.
# Only the health check notices a server that drains while its connection stays open; pick_first would ignore it.
_SERVICE_CONFIG = {"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}

CHANNEL_OPTIONS: Options = [
    *KEEPALIVE_OPTIONS,
    ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.enable_http_proxy", 0),  # a proxy meant for the web would swallow calls between services
]
"""What all channels are created with."""

_HEED_HEALTH: Options = [("grpc.service_config", json.dumps(_SERVICE_CONFIG))]


def create_channel(
    target: str, tls: PemFiles | None = None, *, heed_health: bool = True, options: Options | None = None
) -> grpc.aio.Channel:
    """A channel for asyncio that spreads calls over all healthy servers behind ``target``.

    ``target`` is host:port, or with a scheme such as dns:///name:port to follow all addresses of a headless service.
    With ``tls`` the server must prove its name; the files may be replaced at any time. Unless it is to ``heed_health``
    the channel asks servers that are not serving, too. ``options`` replace those that all channels have.

    Calls fail with ``grpc.aio.AioRpcError``: make them inside ``careca.rpc.statuses.translated_errors``.
    """
    chosen = _options(heed_health, options)
    if tls is None:
        return grpc.aio.insecure_channel(target, options=chosen)
    return RotatingChannel(tls, lambda pem: grpc.aio.secure_channel(target, channel_credentials(pem), options=chosen))


def create_sync_channel(target: str, tls: PemFiles | None = None, *, heed_health: bool = True) -> grpc.Channel:
    """The same for code without asyncio, with the files as they are now. Calls fail with ``grpc.RpcError``."""
    chosen = _options(heed_health)
    if tls is None:
        return grpc.insecure_channel(target, options=chosen)
    return grpc.secure_channel(target, channel_credentials(tls.current()), options=chosen)


def _options(heed_health: bool, others: Options | None = None) -> Options:
    common = [*CHANNEL_OPTIONS, *(_HEED_HEALTH if heed_health else [])]
    return list((dict(common) | dict(others or ())).items())


def channel_credentials(pem: Pem) -> grpc.ChannelCredentials:
    """Whom to trust, by default whom this machine trusts, and what to show."""
    return grpc.ssl_channel_credentials(pem.authority, pem.key, pem.certificate)
