"""``python -m careca.rpc.probe [--service NAME] HOST:PORT`` checks a service once, for health checks of images.

Exit code 0 if the answer is SERVING; 1 for any other answer, for an unknown name, and if there is no answer in time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks, prints the answer (on stderr unless it is SERVING), and returns the exit code."""
    options = _parse(arguments)
    serving, answer = check(_channel(options), options.service, timeout_seconds=options.timeout)
    (sys.stdout if serving else sys.stderr).write(answer + "\n")
    return 0 if serving else 1


def check(channel: grpc.Channel, service: str, *, timeout_seconds: float) -> tuple[bool, str]:
    """Returns whether the health ``service``, such as readiness, is serving, and the answer. Closes the channel."""
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
    # A proxy for the web would answer in place of the service.
    settings: list[tuple[str, str | int]] = [("grpc.enable_http_proxy", 0)]
    if not options.tls_ca_file:
        return grpc.insecure_channel(options.target, options=settings)
    if options.tls_server_name:
        settings.append(("grpc.ssl_target_name_override", options.tls_server_name))
    credentials = grpc.ssl_channel_credentials(options.tls_ca_file.read_bytes())
    return grpc.secure_channel(options.target, credentials, options=settings)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m careca.rpc.probe", description="Checks the health of a service once."
    )
    parser.add_argument("target", metavar="HOST:PORT", help="address of the service")
    parser.add_argument("--service", default="readiness", help="readiness (the default) or liveness")
    parser.add_argument(
        "--timeout", type=float, default=5.0, metavar="SECONDS", help="how long to wait for the answer; 5 by default"
    )
    parser.add_argument(
        "--tls-ca-file", type=Path, metavar="FILE", help="PEM file of the certificate authority; without it, no TLS"
    )
    parser.add_argument("--tls-server-name", metavar="NAME", help="name in the certificate if it differs from HOST")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
