"""``python -m careca.rpc.probe [--service NAME] HOST:PORT`` asks a service once for its health, as images do.

Exit code 0 where it says SERVING, 1 where it says anything else, knows no such name or does not answer in time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def main(arguments: Sequence[str] | None = None) -> int:
    """Asks, says the answer in a word, on stderr where it is not SERVING, and returns the exit code."""
    options = _parse(arguments)
    serving, answer = check(_channel(options), options.service, timeout_seconds=options.timeout)
    (sys.stdout if serving else sys.stderr).write(answer + "\n")
    return 0 if serving else 1


def check(channel: grpc.Channel, service: str, *, timeout_seconds: float) -> tuple[bool, str]:
    """Whether ``service``, a name of health such as readiness, is served there, and what was answered. Closes it."""
    with channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=timeout_seconds
            )
        except grpc.RpcError as error:
            return False, f"{error.code().name}: {error.details()}"
    return answer.status == health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.ServingStatus.Name(
        answer.status
    )


def _channel(options: argparse.Namespace) -> grpc.Channel:
    # A proxy meant for the web would answer in the service's place.
    settings: list[tuple[str, str | int]] = [("grpc.enable_http_proxy", 0)]
    if not options.tls_ca_file:
        return grpc.insecure_channel(options.target, options=settings)
    if options.tls_server_name:
        settings.append(("grpc.ssl_target_name_override", options.tls_server_name))
    credentials = grpc.ssl_channel_credentials(options.tls_ca_file.read_bytes())
    return grpc.secure_channel(options.target, credentials, options=settings)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m careca.rpc.probe", description="Asks a service once how it is.")
    parser.add_argument("target", metavar="HOST:PORT", help="where the service is")
    parser.add_argument("--service", default="readiness", help="readiness (the default) or liveness")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS", help="how long to wait; 5 by default")
    parser.add_argument("--tls-ca-file", type=Path, metavar="FILE", help="PEM of the authority; without it, no TLS")
    parser.add_argument("--tls-server-name", metavar="NAME", help="name in the certificate, where HOST is another")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
