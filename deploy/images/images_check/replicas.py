"""Two replicas of each of Careca's services, which are replaced one by one, as a rolling update does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from images_check.checks import REDIS, wait_for
from images_check.podman import CheckError
from images_check.pods import ADDRESSES, Cluster, Pod

OVERLAY = "base, shared store"
"""The build of the manifests in which there can be several gateways."""

FORWARD = ("web", "gateway", "transcriber", "diarizer")
"""The order of an upgrade: gateways of the new version call model services of the old one."""
BACK = ("gateway", "transcriber", "diarizer", "web")
"""The order of a downgrade: gateways of the old version call model services of the new one."""

REPLICAS = 2

GATEWAY_PORT = 50051
WEB_PORT = 8080


class Replicas:
    """All pods of an installation with a shared store. The methods that are not asynchronous block."""

    def __init__(self) -> None:
        self._pods: dict[tuple[str, int], Pod] = {}

    def start(self, cluster: Cluster) -> None:
        """Starts one of each Redis, and the replicas of all services that ``cluster`` has."""
        for name in REDIS:
            cluster.pod(name).start()
        for service in BACK:
            for replica in range(REPLICAS if cluster.has(service) else 0):
                self._start(cluster, service, replica)

    def replace(self, cluster: Cluster, service: str, replica: int) -> None:
        """Ends a replica and starts that of ``cluster`` with the same volumes, where one of them has none.

        Raises ``CheckError`` if it does not end with status 0 after SIGTERM.
        """
        if pod := self._pods.pop((service, replica), None):  # as for a Service: nobody is sent there any more
            status, _ = pod.stop()
            if status:
                raise CheckError(f"{pod.name} ended with status {status} after SIGTERM: {pod.logs()[-1500:]}")
            pod.remove()
        if cluster.has(service):
            self._start(cluster, service, replica)

    async def replace_all(self, cluster: Cluster, order: Sequence[str]) -> None:
        """Replaces all replicas of all services, one after the other."""
        for service in order:
            for replica in range(REPLICAS):
                await asyncio.to_thread(self.replace, cluster, service, replica)

    async def kill_all(self) -> None:
        """Ends each replica with SIGKILL and starts it again, one after the other.

        Except web services: a call by HTTP ends with its web service, and its caller has to repeat it.
        """
        for service in FORWARD[1:]:
            for replica in range(REPLICAS):
                await asyncio.to_thread(self._kill, service, replica)

    def targets(self, service: str) -> list[str]:
        """Returns where the replicas are that callers are sent to: addresses and ports."""
        port = {"gateway": GATEWAY_PORT, "web": WEB_PORT}[service]
        return [f"{ADDRESSES[service][replica]}:{port}" for name, replica in list(self._pods) if name == service]

    def _kill(self, service: str, replica: int) -> None:
        pod = self._pods[service, replica]  # nobody is told before
        pod.kill()
        pod.start_again()
        _wait_until_ready(pod)

    def _start(self, cluster: Cluster, service: str, replica: int) -> None:
        pod = cluster.pod(service, replica)
        pod.start()
        _wait_until_ready(pod)
        self._pods[service, replica] = pod


def _wait_until_ready(pod: Pod) -> None:
    wait_for(lambda: pod.passes("readinessProbe"), f"{pod.name} does not become ready")
