"""Whether what manifests set is what the services read: names, values, ports, metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from careca.settings import PREFIX, variable_name
from careca.types import JobState
from careca_diarizer.settings import DiarizerSettings
from careca_gateway.jobs.metrics import JobMetrics
from careca_gateway.metrics import GatewayMetrics
from careca_gateway.settings import GatewaySettings
from careca_transcriber.settings import TranscriberSettings
from careca_web.settings import WebSettings
from k8s_check.manifests import SERVICES, Manifests

CLASSES: dict[str, type[BaseSettings]] = {
    "gateway": GatewaySettings,
    "web": WebSettings,
    "transcriber": TranscriberSettings,
    "diarizer": DiarizerSettings,
}

_GRPC_PORTS = {"grpc": "port", "metrics": "metrics_port", "health": "health_port"}
_PORTS = {"web": {"https": "port", "metrics": "metrics_port"}}


def known(manifests: Manifests) -> list[str]:
    """Every variable of Careca's is one that the service in that image reads."""
    return [
        f"{container} sets {name}, which its service does not read"
        for workload in manifests.workloads
        for container in workload.containers
        if container.image_name in SERVICES
        for name in container.environment
        if name.startswith(PREFIX)
        if name not in map(variable_name, CLASSES[container.image_name].model_fields)
    ]


def values(manifests: Manifests) -> list[str]:
    """Each service would start with what it is set to; containers listen on the ports that they say."""
    problems = []
    for container in manifests.service_containers():
        fields: dict[str, Any] = {
            name.removeprefix(PREFIX).lower(): value
            for name, value in container.environment.items()
            if value and name.startswith(PREFIX)  # an empty one counts as none
        }
        try:
            # Another prefix: what this process's environment says must not count.
            settings = CLASSES[container.image_name](_env_prefix="NOT_READ_", **fields)
        except ValidationError as error:
            problems.append(f"{container} would not start: {error.errors(include_url=False)[0]['msg']}")
            continue
        listens = {
            name: getattr(settings, field) for name, field in _PORTS.get(container.image_name, _GRPC_PORTS).items()
        }
        if container.ports != listens:
            problems.append(f"{container} says that it has the ports {container.ports}, and has {listens}")
    return problems


def metrics(manifests: Manifests) -> list[str]:
    """What is scaled by is measured: metrics and states of jobs are those of the gateway."""
    exported = set(gateway_metrics())
    problems = []
    for scaled in manifests.of_kind("ScaledObject"):
        for trigger in scaled["spec"]["triggers"]:
            query = trigger["metadata"]["query"]
            asked = set(re.findall(r"\bcareca_\w+", query))
            states = {state for group in re.findall(r'state=~?"([^"]*)"', query) for state in group.split("|")}
            problems += [f"nothing exports {name}" for name in sorted(asked - exported)]
            problems += [f"no job is ever {state}" for state in sorted(states - set(JobState))]
            if not asked:
                problems.append(f"{scaled['metadata']['name']} is scaled by nothing of Careca's")
    return problems


def gateway_metrics() -> Iterator[str]:
    """Names of all series that a gateway exports."""
    metrics = GatewayMetrics()
    JobMetrics(metrics.registry)
    for family in metrics.registry.collect():
        for sample in family.samples:
            yield sample.name
